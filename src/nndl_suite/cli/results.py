"""A run's `result.json` on the screen: as it is, or as a short table."""

from pathlib import Path
from typing import Any

from nndl_suite.cli.screen import print_json, print_table
from nndl_suite.training.files import read_json


def show_result(run: Path, *, as_json: bool) -> None:
    """What a finished run found."""
    result: dict[str, Any] = dict(read_json(run / "result.json"))
    if as_json:
        print_json({"out": str(run), **result})
        return
    title, columns, rows = _TABLES[str(result["kind"])](result)
    print_table(title, columns, rows)
    print_table("", ["run folder", "time"], [[str(run), _duration(result["seconds"])]])


_Table = tuple[str, list[str], list[list[str]]]


def _probe(result: dict[str, Any]) -> _Table:
    chosen = ", ".join(f"{name} {_number(value)}" for name, value in result["chosen"].items())
    row = [
        str(result["features"]),
        _interval(result["test_accuracy"], result["test_accuracy_ci95"]),
        f"{result['val_accuracy']:.2%}",
        chosen,
        f"{result['feature_dim']} at {result['resolution']} px",
    ]
    title = f"{result['protocol']} probe on {result['dataset']}"
    return title, ["features", "test accuracy (95 %)", "validation", "chosen on validation", "features"], [row]


def _pretrain(result: dict[str, Any]) -> _Table:
    row = [
        str(result["epochs"]),
        f"{result['final_loss']:.4f}",
        f"{result['effective_rank']:.1f}",
        f"{result['images_per_second']:.0f}",
        str(result["checkpoint"]),
    ]
    return f"{result['method']} pretraining", ["epochs", "final loss", "effective rank", "images/s", "weights"], [row]


def _comparison(result: dict[str, Any]) -> _Table:
    rows = [
        [
            arm["name"],
            f"{arm['parameters']:,}",
            f"{arm['flops'] / 1e9:.3f} G",
            _interval(arm["mean"], arm["ci95"]),
            f"{arm['images_per_second']:.0f}",
            _duration(arm["seconds"]),
        ]
        for arm in result["arms"]
    ]
    difference = result["difference"]
    rows.append(["difference", "", "", _interval(difference["mean"], difference["ci95"]), "", ""])
    return "comparison", ["arm", "parameters", "FLOPs", "test accuracy (95 %)", "images/s", "time"], rows


def _nerf(result: dict[str, Any]) -> _Table:
    test, poses = result["test"], result["poses"]
    error = poses["mean_reprojection_error"]
    row = [
        f"{test['psnr']:.2f} dB",
        f"{test['ssim']:.3f}",
        f"{result['test_images']} of {result['train_images'] + result['test_images']}",
        f"{poses['registered']} of {poses['total']}" + ("" if error is None else f" ({error:.2f} px)"),
        " x ".join(str(side) for side in result["resolution"]),
        str(result["steps"]),
        f"{result['render_seconds_per_frame']:.2f} s",
    ]
    columns = ["PSNR", "SSIM", "held-out photos", "photos placed", "pixels", "steps", "a frame"]
    return "reconstruction", columns, [row]


_TABLES = {"probe": _probe, "pretrain": _pretrain, "comparison": _comparison, "nerf": _nerf}


def _interval(mean: float, ci95: list[float] | None) -> str:
    return f"{mean:.2%}" + ("" if ci95 is None else f"  [{ci95[0]:.2%}, {ci95[1]:.2%}]")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
