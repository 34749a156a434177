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
    if result["kind"] == "comparison":
        print_table("comparison", ["arm", "parameters", "FLOPs", "test accuracy", "95 % interval"], _arms(result))
    title, facts = _FACTS[str(result["kind"])](result)
    print_table(title, ["", ""], [*facts, ["time", _duration(result["seconds"])], ["run folder", str(run)]])


_Facts = tuple[str, list[list[str]]]


def _probe(result: dict[str, Any]) -> _Facts:
    chosen = ", ".join(f"{name} {_number(value)}" for name, value in result["chosen"].items())
    return f"{result['protocol']} probe on {result['dataset']}", [
        ["features", f"{result['features']} ({result['feature_dim']} at {result['resolution']} px)"],
        ["test accuracy", f"{result['test_accuracy']:.2%}  {_interval(result['test_accuracy_ci95'])}"],
        ["validation accuracy", f"{result['val_accuracy']:.2%}"],
        ["chosen on validation", chosen],
    ]


def _pretrain(result: dict[str, Any]) -> _Facts:
    return f"{result['method']} pretraining", [
        ["epochs", str(result["epochs"])],
        ["final loss", f"{result['final_loss']:.4f}"],
        ["effective rank", f"{result['effective_rank']:.1f}"],
        ["speed", f"{result['images_per_second']:.0f} images/s"],
        ["weights", str(result["checkpoint"])],
    ]


def _arms(result: dict[str, Any]) -> list[list[str]]:
    rows = [
        [
            arm["name"],
            f"{arm['parameters']:,}",
            f"{arm['flops'] / 1e9:.3f} G",
            f"{arm['mean']:.2%}",
            _interval(arm["ci95"]),
        ]
        for arm in result["arms"]
    ]
    difference = result["difference"]
    rows.append(["difference", "", "", f"{difference['mean']:+.2%}", _interval(difference["ci95"])])
    return rows


def _comparison(result: dict[str, Any]) -> _Facts:
    speeds = [
        [f"{arm['name']}, one run", f"{_duration(arm['seconds'])}, {arm['images_per_second']:.0f} images/s"]
        for arm in result["arms"]
    ]
    return "", [*speeds, ["seeds", ", ".join(str(seed) for seed in result["arms"][0]["seeds"])]]


def _nerf(result: dict[str, Any]) -> _Facts:
    test, poses = result["test"], result["poses"]
    error = poses["mean_reprojection_error"]
    placed = f"{poses['registered']} of {poses['total']}" + ("" if error is None else f" ({error:.2f} px)")
    return "reconstruction", [
        ["PSNR on held-out photos", f"{test['psnr']:.2f} dB"],
        ["SSIM on held-out photos", f"{test['ssim']:.3f}"],
        ["photos", f"{result['train_images']} trained on, {result['test_images']} held out"],
        ["photos placed", placed],
        ["pixels", " x ".join(str(side) for side in result["resolution"])],
        ["training", f"{result['steps']} steps in {_duration(result['train_seconds'])}"],
        ["rendering", f"{result['render_seconds_per_frame']:.2f} s a frame"],
    ]


_FACTS = {"probe": _probe, "pretrain": _pretrain, "comparison": _comparison, "nerf": _nerf}


def _interval(ci95: list[float] | None) -> str:
    return "" if ci95 is None else f"[{ci95[0]:.2%}, {ci95[1]:.2%}]"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
