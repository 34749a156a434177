"""Run against an installed wheel, outside the checkout: the package is light, and each public name does its work once.

python tests/smoke_wheel.py
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import nndl_suite

assert not {"torch", "numpy", "numba"} & set(sys.modules), "import nndl_suite must stay light"
assert "site-packages" in nndl_suite.__file__, nndl_suite.__file__
assert (Path(nndl_suite.__file__).parent / "py.typed").exists()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from nndl_suite.comparison.recipe import Recipe  # noqa: E402
from nndl_suite.comparison.recipes import RECIPES  # noqa: E402
from nndl_suite.data.demo_capture import make_demo_capture  # noqa: E402
from nndl_suite.report.page import write_report  # noqa: E402

ON_CPU = {"device": "cpu", "precision": "32-true"}


def made_set(folder: Path) -> str:
    """60 + 30 images of 16 px in three tints."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 60), ("test", 30)):
        labels = np.arange(n) % 3
        images = rng.integers(0, 90, (n, 16, 16, 3), dtype=np.uint8)
        for channel in range(3):
            images[labels == channel, :, :, channel] += 90
        np.savez(folder / f"tints-{split}.npz", images=images, labels=labels, class_names=list("abc"))
    return f"arrays:{folder / 'tints.npz'}"


def mixing() -> None:
    images, targets = nndl_suite.CutMix(num_classes=3)(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 3, 8, 8)
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))


def representation(dataset: str, out: Path) -> list[Path]:
    pretrainer = nndl_suite.SSLPretrainer(backbone="resnet18-slim", epochs=1, batch_size=30, seed=0, **ON_CPU)
    run = pretrainer.fit(dataset, out=out / "pretrain")
    probe = nndl_suite.LinearProbe(features=run, seed=0, device="cpu", cache="off")
    assert 0 <= probe.evaluate(dataset, out=out / "probe").test_accuracy <= 1
    rows, labels = np.eye(3, dtype=np.float32).repeat(20, axis=0), np.arange(3).repeat(20)
    assert nndl_suite.LinearProbe().fit(rows, labels).score(rows, labels) == 1
    return [out / "pretrain", out / "probe"]


def comparison(dataset: str, out: Path) -> list[Path]:
    recipe = Recipe(batch_size=10)
    result = nndl_suite.compare_architectures(
        "resnet18-slim", "vit", dataset, epochs=1, seeds=(0, 1), recipe=recipe, out=out / "compare", **ON_CPU
    )
    assert len(result.arms) == 2
    speed = replace(RECIPES["speed"], batch_size=10, resolutions=())
    trained = nndl_suite.train_architecture(
        "whitened-cnn", dataset, epochs=1, recipe=speed, out=out / "train", **ON_CPU
    )
    assert trained.weights.is_file()
    tuned = nndl_suite.tune_architecture(
        "resnet18-slim", dataset, trials=2, epochs=1, recipe=recipe, out=out / "tune", **ON_CPU
    )
    assert tuned.best.settings
    return [out / name for name in ("compare", "train", "tune")]


def reconstruction(out: Path) -> list[Path]:
    capture = make_demo_capture(out / "capture", photos=12, size=(48, 36))
    scan = nndl_suite.ColmapNerfReconstructor(capture, out=out / "scan", seed=0, device="cpu")
    assert scan.estimate_poses().registered == 12
    scan.fit(steps=6)
    assert scan.evaluate().psnr > 5
    scan.render_orbit(out / "orbit.mp4", frames=2)
    scan.export_cameras(out / "transforms.json")
    assert all((out / name).stat().st_size > 100 for name in ("orbit.mp4", "transforms.json"))
    return [out / "scan"]


def refused(kind: type[nndl_suite.NndlError], what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except kind as error:
        if not str(error):
            raise AssertionError(f"{what} was refused without a word") from error
    else:
        raise AssertionError(f"{what} was not refused")


def refusals(out: Path) -> None:
    (out / "empty").mkdir()
    ConfigError, DataError = nndl_suite.ConfigError, nndl_suite.DataError
    refused(ConfigError, "no classes", lambda: nndl_suite.CutMix(num_classes=0))
    nowhere = f"arrays:{out / 'nowhere.npz'}"
    refused(
        DataError, "a missing file", lambda: nndl_suite.LinearProbe(features="random").evaluate(nowhere, out=out / "x")
    )
    refused(
        nndl_suite.CaptureError,
        "a folder without photos",
        lambda: nndl_suite.ColmapNerfReconstructor(out / "empty", out=out / "y").fit(steps=1),
    )
    refused(nndl_suite.RunError, "a folder that holds a run", lambda: write_report([out / "empty"], out / "r.html"))


def main() -> None:
    with TemporaryDirectory() as folder:
        out = Path(folder)
        dataset, runs = made_set(out), []
        for name, work in (
            ("CutMix", lambda: mixing()),
            ("representation", lambda: runs.extend(representation(dataset, out))),
            ("comparison", lambda: runs.extend(comparison(dataset, out))),
            ("reconstruction", lambda: runs.extend(reconstruction(out))),
            ("refusals", lambda: refusals(out)),
            ("report", lambda: write_report(runs, out / "report.html")),
        ):
            start = time.monotonic()
            work()
            print(f"{name}: {time.monotonic() - start:.1f} s")
        assert (out / "report.html").stat().st_size > 20_000
    print("wheel works:", nndl_suite.__version__)


if __name__ == "__main__":
    main()
