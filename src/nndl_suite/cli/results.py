"""A run's `result.json` on the screen: as it is, or as a short table."""

from pathlib import Path
from typing import Any

from nndl_suite.cli.screen import print_json, print_table, say
from nndl_suite.cli.study_results import print_scale, print_study, print_sweep
from nndl_suite.cli.tuning_results import tuning_facts
from nndl_suite.training.environment import is_told_first
from nndl_suite.training.files import read_json

_FAILURES_SHOWN = 20


def show_result(run: Path, *, as_json: bool) -> None:
    """What a finished run found; of several processes the first alone shows it."""
    if not is_told_first():
        return
    result: dict[str, Any] = dict(read_json(run / "result.json"))
    if as_json:
        print_json({"out": str(run), **result})
        return
    if result["kind"] == "comparison":
        print_table("comparison", ["arm", "parameters", "FLOPs", "test accuracy", "95 % interval"], _arms(result))
        columns = ["at the last epoch", *(arm["name"] for arm in result["arms"]), "difference"]
        print_table("", columns, _measures(result))
        if result["learning_curve"]:
            columns = ["training images", *(arm["name"] for arm in result["arms"]), "difference"]
            print_table("with fewer images", columns, _learning_curve(result["learning_curve"]))
    if (table := _TABLES.get(str(result["kind"]))) is not None:
        table(result)
    title, facts = _FACTS[str(result["kind"])](result)
    print_table(title, ["", ""], [*facts, ["time", _duration(result["seconds"])], ["run folder", str(run)]])


def show_poses(scene: Path, *, as_json: bool) -> None:
    """What COLMAP found, and what failed and why."""
    found: dict[str, Any] = dict(read_json(scene / "poses.json"))
    if as_json:
        print_json({"kind": "poses", "out": str(scene), **found})
        return
    error = found["mean_reprojection_error"]
    print_table(
        "poses",
        ["", ""],
        [
            ["photos placed", f"{found['registered']} of {found['total']}"],
            ["reprojection error", "unknown" if error is None else f"{error:.2f} px"],
            ["by", f"{found['matcher']} matching, {found['mapper']} mapper"],
            *(["note", note] for note in found.get("notes", [])),
            ["scene", str(scene)],
        ],
    )
    failed = list(found.get("why", {}).items())
    if failed:
        print_table("not placed", ["photo", "why"], failed[:_FAILURES_SHOWN])
    if len(failed) > _FAILURES_SHOWN:
        say(f"and {len(failed) - _FAILURES_SHOWN} more: see {scene / 'poses.json'}")
    say(f"next: nndl-suite nerf train {scene} --out runs/NAME")


_Facts = tuple[str, list[list[str]]]


def _probe(result: dict[str, Any]) -> _Facts:
    chosen = ", ".join(f"{name} {_number(value)}" for name, value in result["chosen"].items())
    return f"{result['protocol']} probe on {result['dataset']}", [
        ["features", f"{result['features']} ({result['feature_dim']} at {result['resolution']} px)"],
        ["test accuracy", f"{result['test_accuracy']:.2%}  {_interval(result['test_accuracy_ci95'])}"],
        ["validation accuracy", f"{result['val_accuracy']:.2%}"],
        ["stated, not chosen" if result["protocol"] == "finetune" else "chosen on validation", chosen],
        *(["note", note] for note in result.get("notes", [])),
    ]


def _pretrain(result: dict[str, Any]) -> _Facts:
    return f"{result['method']} pretraining", [
        ["epochs", str(result["epochs"])],
        ["final loss", f"{result['final_loss']:.4f}"],
        ["effective rank", f"{result['effective_rank']:.1f}"],
        *([["warning", str(result["warning"])]] if result.get("warning") else []),
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


def _measures(result: dict[str, Any]) -> list[list[str]]:
    """What is measured beside accuracy, a row each: the means of both arms, the paired difference with its interval."""
    first, second = (arm["measures"] for arm in result["arms"])
    difference = result["difference"]["measures"]
    rows = {"top5": "top-5", "train_accuracy": "on training images", "corrupted": "corrupted images", "ece": "ECE"}
    table = [
        [
            label,
            f"{first[key]['mean']:.2%}",
            f"{second[key]['mean']:.2%}",
            f"{difference[key]['mean']:+.2%}  {_interval(difference[key]['ci95'])}".rstrip(),
        ]
        for key, label in rows.items()
        if difference[key] is not None
    ]
    nll = [first["nll"]["mean"], second["nll"]["mean"]]
    return [*table, ["NLL (nats)", *(f"{value:.3f}" for value in nll), f"{difference['nll']['mean']:+.3f}"]]


def _learning_curve(points: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            f"{point['images']:,}",
            *(f"{arm['mean']:.2%}" for arm in point["arms"]),
            f"{point['difference']['mean']:+.2%}  {_interval(point['difference']['ci95'])}".rstrip(),
        ]
        for point in points
    ]


def _comparison(result: dict[str, Any]) -> _Facts:
    speeds = [
        [f"{arm['name']}, one run", f"{_duration(arm['seconds'])}, {arm['images_per_second']:.0f} images/s"]
        for arm in result["arms"]
    ]
    seeds = ", ".join(str(seed) for seed in result["arms"][0]["seeds"])
    crossing = result["crossing"]["epochs"]
    told = "none" if crossing is None else f"{crossing['leader']} stays ahead from epoch {crossing['at']:.1f} on"
    return "", [
        *speeds,
        *_tuned(result),
        ["seeds", seeds],
        ["crossing", told],
        ["this may be said", result["sentence"]["may"]],
        ["this may not", result["sentence"]["may_not"]],
    ]


def _training(result: dict[str, Any]) -> _Facts:
    chosen = ", ".join(f"{name} {_number(value)}" for name, value in result["chosen"].items())
    tested = "test accuracy, with mirrors" if result["recipe"].get("test_mirrored") else "test accuracy"
    return f"{result['arm']} on {result['dataset']}", [
        [tested, f"{result['test_accuracy']:.2%}  {_interval(result['test_accuracy_ci95'])}"],
        ["on training images", f"{result['train_accuracy']:.2%}"],
        ["parameters", f"{result['parameters']:,}"],
        ["epochs", str(result["epochs"])],
        ["rates", chosen],
        ["speed", f"{result['images_per_second']:.0f} images/s"],
        ["weights", result["weights"]],
    ]


def _tuned(result: dict[str, Any]) -> list[list[str]]:
    """Runs of earlier versions were not tuned."""
    tuning = result.get("tuning")
    if tuning is None:
        return []
    chosen = [
        f"{one['arm']} {', '.join(f'{name} {_number(value)}' for name, value in one['rates'].items())}"
        for one in tuning["arms"]
    ]
    return [["rates tuned", f"{tuning['trials']} trials of {tuning['epochs']} epochs each: {'; '.join(chosen)}"]]


def _nerf(result: dict[str, Any]) -> _Facts:
    test, poses = result["test"], result["poses"]
    error = poses["mean_reprojection_error"]
    placed = f"{poses['registered']} of {poses['total']}" + ("" if error is None else f" ({error:.2f} px)")
    return "reconstruction", [
        ["PSNR on held-out photos", f"{test['psnr']:.2f} dB"],
        ["SSIM on held-out photos", f"{test['ssim']:.3f}"],
        ["LPIPS on held-out photos", _lpips(result)],
        *_unrefined(result),
        *_gap(result),
        ["photos", f"{result['train_images']} trained on, {result['test_images']} held out"],
        ["photos placed", placed],
        ["pixels", _pixels(result)],
        ["training", f"{result['steps']} steps in {_duration(result['train_seconds'])}"],
        ["rendering", f"{result['render_seconds_per_frame']:.2f} s a frame"],
    ]


def _lpips(result: dict[str, Any]) -> str:
    value = result["test"]["lpips"]
    return result.get("lpips_missing") or "not computed" if value is None else f"{value:.3f}"


def _unrefined(result: dict[str, Any]) -> list[list[str]]:
    """Where training moved its cameras: what the scores above are about, and what they would be otherwise."""
    whole = result.get("test_unrefined")
    if whole is None:
        return []
    told = f"{whole['psnr']:.2f} dB, {whole['ssim']:.3f}  (whole photos)"
    return [["held-out poses", result["held_out_poses"]], ["at their poses as given", told]]


def _gap(result: dict[str, Any]) -> list[list[str]]:
    """Runs of earlier versions have none."""
    if "train" not in result:
        return []
    train, gap = result["train"], result["gap"]
    told = f"{train['psnr']:.2f} dB, {train['ssim']:.3f}  ({gap['psnr']:+.2f} dB, {gap['ssim']:+.3f})"
    return [[f"on {len(train['names'])} training photos", told]]


def _pixels(result: dict[str, Any]) -> str:
    used, photo = result["resolution"], result.get("photo_size")
    told = " x ".join(str(side) for side in used)
    return told if photo is None else f"{told} of {' x '.join(str(side) for side in photo)}"


def _many(result: dict[str, Any]) -> _Facts:
    return "", [["seeds", ", ".join(str(seed) for seed in result["seeds"])]]


_TABLES = {"study": print_study, "scale": print_scale, "sweep": print_sweep}
_FACTS = {
    "probe": _probe,
    "pretrain": _pretrain,
    "comparison": _comparison,
    "training": _training,
    "tuning": tuning_facts,
    "nerf": _nerf,
} | dict.fromkeys(_TABLES, _many)


def _interval(ci95: list[float] | None) -> str:
    return "" if ci95 is None else f"[{ci95[0]:.2%}, {ci95[1]:.2%}]"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
