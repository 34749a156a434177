import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from nndl_suite.errors import RunError
from nndl_suite.report import words
from nndl_suite.report.figures import Estimate, Line, curves, estimates
from nndl_suite.report.page import write_report
from nndl_suite.report.scene_view import read_scene
from nndl_suite.training.runs import RunFolder, open_run


def _probe(root, name="probe", accuracy=0.5512):
    run = open_run(root / name, kind="probe", settings={"grid": {"l2": [1e-4, 1e-3]}}, resume=False)
    fields = {
        "protocol": "linear",
        "features": "imagenet",
        "dataset": "cifar100",
        "test_accuracy": accuracy,
        "test_accuracy_ci95": [accuracy - 0.01, accuracy + 0.01],
        "val_accuracy": 0.56,
        "chosen": {"l2": 0.001},
        "feature_dim": 512,
        "resolution": 32,
    }
    run.finish("probe", seconds=81, seed=3, fields=fields)
    return run.path


def _pretrain(root, *, finished=True):
    run = open_run(root / "simclr", kind="pretrain", settings={"method": "simclr"}, resume=False)
    for step in range(1, 1001):
        run.log({"step": step, "seconds": step * 0.1, "loss": 6 / step})
    fields = {
        "method": "simclr",
        "epochs": 100,
        "images_per_second": 11873.2,
        "final_loss": 4.2123,
        "effective_rank": 212.3,
        "checkpoint": "weights.safetensors",
    }
    if finished:
        run.finish("pretrain", seconds=4210, seed=0, fields=fields)
    return run.path


def _measure(mean, by_seed):
    interval = None if len(by_seed) == 1 else [mean - 0.01, mean + 0.01]
    return {"by_seed": [mean] * len(by_seed), "mean": mean, "ci95": interval}


def _measures(mean, seeds):
    figures = {"top5": mean + 0.2, "ece": 0.0517, "nll": 1.234, "train_accuracy": 0.99, "gap": 0.28, "corrupted": 0.6}
    return {name: _measure(value, seeds) for name, value in figures.items()}


def _arm(name, mean, seeds):
    return {
        "name": name,
        "parameters": 11_220_132,
        "flops": 1_110_937_600,
        "seeds": list(seeds),
        "test_accuracy": [mean] * len(seeds),
        "mean": mean,
        "ci95": [mean - 0.01, mean + 0.01],
        "best_epoch": None,
        "seconds": 700.0,
        "images_per_second": 6012.0,
        "chosen": {"rate": 0.001, "decay": 0.05},
        "measures": _measures(mean, seeds),
        "corruptions": {"noise": 0.5, "blur": 0.7},
        "per_class": [mean, mean, None],
        "per_superclass": {},
        "curve": {
            "epochs": [1, 2, 3],
            "flops": [1e15, 2e15, 3e15],
            "seconds": [300.0, 600.0, 900.0],
            "val_accuracy": [0.3, 0.6, mean],
        },
    }


def _comparison(root, *, seeds=(0, 1), ci95=(-0.01, 0.05), finished=True, superclasses=None, failed=False):
    run = open_run(
        root / "cmp",
        kind="comparison",
        settings={"recipe": {"batch_size": 256}, "arms": {"resnet18": "", "vit": ""}},
        resume=False,
    )
    arms = []
    for name, mean in (("resnet18", 0.71), ("vit", 0.73)):
        for seed in seeds:
            arm = open_run(run.path / "arms" / f"{name}-seed{seed}", kind="arm", settings={}, resume=False)
            for epoch in range(1, 6):
                arm.log({"step": epoch * 10 - 5, "seconds": epoch, "loss": 4 / epoch})
                arm.log({"step": epoch * 10, "seconds": epoch, "loss": 4 / epoch, "epoch": epoch, "val_accuracy": 0.1})
        arms.append(_arm(name, mean, seeds))
    difference = {
        "mean": 0.02,
        "ci95": None if ci95 is None else list(ci95),
        "measures": _measures(0.02, seeds),
        "per_class": [_measure(0.03, seeds), _measure(-0.01, seeds), None],
        "per_superclass": {name: _measure(value, seeds) for name, value in (superclasses or {}).items()},
    }
    crossing = {"epochs": {"leader": "vit", "at": 2.5, "val_accuracy": 0.65}, "flops": None, "seconds": None}
    failures = []
    if failed:
        arms[0] = {**arms[0], "seeds": [], "mean": None, "ci95": None, "seconds": None, "images_per_second": None}
        difference, crossing = None, {}
        failures = [{"arm": "resnet18", "seed": 0, "reason": "resnet18, seed 0: loss is nan at <step> 40"}]
    if finished:
        fields = {
            "arms": arms,
            "difference": difference,
            "crossing": crossing,
            "sentence": {"may": "On set, no difference is shown.", "may_not": "This does not say <more>."},
            "failures": failures,
            "learning_curve": [],
            "tuning": None,
            "class_names": ["cat", "dog", "eel"],
            "recipe": {"batch_size": 256},
        }
        run.finish("comparison", seconds=2800, seed=0, fields=fields)
    return run.path


def _nerf(root, *, whole=True):
    run = open_run(root / "can", kind="nerf", settings={"capture": "photos/<script>alert(1)</script>"}, resume=False)
    names = [f"images/{i:03d}.jpg" for i in range(10)]
    fields = {
        "test": {
            "psnr": 25.7,
            "ssim": 0.83,
            "lpips": None,
            "per_image": [{"name": n, "psnr": 20.0 + i, "ssim": 0.8, "lpips": None} for i, n in enumerate(names)],
        },
        "lpips_missing": "no SqueezeNet weights found in here",
        "train": {"psnr": 28.9, "ssim": 0.91, "names": names[1:4]},
        "gap": {"psnr": 3.2, "ssim": 0.08},
        "photo_size": [1080, 1920],
        "max_side": 640,
        "error_scale": 0.25,
        "train_images": 56,
        "test_images": 10,
        "resolution": [360, 640],
        "steps": 20_000,
        "train_seconds": 600.0,
        "render_seconds_per_frame": 0.31,
        "poses": {"registered": 66, "total": 67, "mean_reprojection_error": 0.83, "notes": ["3 of <66> doubted"]},
        "note": "the held-out photos took part in the joint solve",
    }
    run.finish("nerf", seconds=700, seed=0, fields=fields)
    if whole:
        (run.path / "views").mkdir()
        for i in range(10):
            for kind in ("photo", "render", "error"):
                Image.new("RGB", (8, 6), (25 * i, 0, 0)).save(run.path / "views" / f"{i:03d}-{kind}.jpg")
        (run.path / "orbit.mp4").write_bytes(b"not really a video")
        _write_scene(run.path / "scene.json")
    return run.path


def _write_scene(file, **changes):
    rng = np.random.default_rng(0)
    cameras = [
        {"name": "a", "center": [0, -2, 0], "forward": [0, 1, 0], "up": [0, 0, 1], "test": False},
        {"name": "b", "center": [4, 0, 0], "forward": [-1, 0, 0], "up": [0, 0, 1], "test": True},
    ]
    points = {"xyz": rng.normal(size=(50, 3)).tolist(), "rgb": rng.integers(0, 256, (50, 3)).tolist()}
    scene = {"cameras": cameras, "points": points, "up": [0, 0, 1], "center": [0, 0, 0]} | changes
    file.write_text(json.dumps(scene))


class _Reader(HTMLParser):
    """What a page loads, what it says, and whether its tags and ids are in order."""

    _VOID = frozenset(("meta", "img", "br", "link", "input"))

    def __init__(self, html):
        super().__init__()
        self.open, self.loads, self.texts, self.ids, self.images = [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in self._VOID:
            self.open.append(tag)
        self.loads += [attributes[key] for key in ("src", "href", "poster", "xlink:href") if key in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes] if tag == "img" else []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self._VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def _page(runs, tmp_path):
    file = write_report(runs, tmp_path / "pages" / "report.html")
    html = file.read_text()
    return html, _Reader(html)


@pytest.fixture
def all_runs(tmp_path):
    probes = [_probe(tmp_path), _probe(tmp_path, "probe-random", 0.12)]
    return [*probes, _pretrain(tmp_path), _comparison(tmp_path), _nerf(tmp_path)]


def test_one_file_and_nothing_outside_it(all_runs, tmp_path):
    html, page = _page(all_runs, tmp_path)
    assert page.loads
    assert all(load.startswith(("data:", "#")) for load in page.loads)
    assert not re.findall(r"url\((?!#)", html)
    assert "@import" not in html
    assert "fetch(" not in html
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(image.get("alt") for image in page.images)
    assert "prefers-color-scheme: dark" in html


def test_what_the_page_says(all_runs, tmp_path):
    html, page = _page(all_runs, tmp_path)
    for expected in (
        "55.12 %",
        "54.12 to 56.12 %",
        "11,873",
        "1 h 10 min",
        "11,220,132",
        "1.11 G",
        "70.00 to 72.00 %",
        "+2.00 points",
        "On set, no difference is shown.",
        "This does not say <more>.",
        "epoch 2.5 on (dotted) vit stays ahead, at 65.00 %",
        "As far as both go, neither overtakes the other for good.",
        "top-5 91.00 % 90.00 to 92.00 % 93.00 %",
        "5.17 %",
        "1.234",
        "+1.234",
        "mean over noise, blur",
        "25.70 dB",
        "66 of 67 photos",
        "360 x 640 pixels of the photos' 1080 x 1920",
        "On 3 photos that training did see: 28.90 dB, SSIM 0.910. The gap to the held-out ones is +3.20 dB and +0.080.",
        "Of the poses: 3 of <66> doubted.",
        "No LPIPS: no SqueezeNet weights found in here.",
        "joint solve",
        "recipe.batch_size",
        "python",
        "seed 3",
    ):
        assert expected in page.text, expected
    # probes, pretraining, comparison (three axes, loss, accuracy, corruptions, classes); this nerf run logged nothing
    assert html.count("<svg") == 1 + 1 + 7 + 0
    assert "<script>alert" not in html


def test_held_out_photos_run_from_worst_to_best(all_runs, tmp_path):
    _, page = _page(all_runs, tmp_path)
    shown = [float(value) for value in re.findall(r"\.jpg · ([\d.]+) dB", page.text)]
    assert shown == [20, 21, 23, 25, 27, 29]
    assert sum(image["alt"].startswith("Render") for image in page.images) == 6
    assert sum(image["alt"].startswith("Difference") for image in page.images) == 6


def test_a_run_of_an_earlier_version_has_no_gap_and_no_errors(tmp_path):
    run = _nerf(tmp_path)
    result = RunFolder(run).result()
    for key in ("train", "gap", "photo_size", "lpips_missing", "error_scale", "max_side"):
        del result[key]
    for row in result["test"]["per_image"]:
        del row["lpips"]
    (run / "result.json").write_text(json.dumps(result))
    for file in (run / "views").glob("*-error.jpg"):
        file.unlink()
    _, page = _page([run], tmp_path)
    assert "25.70 dB" in page.text
    assert sum(image["alt"].startswith("Render") for image in page.images) == 6
    assert not any(image["alt"].startswith("Difference") for image in page.images)


def test_lpips_is_shown_where_it_is_known(tmp_path):
    run = _nerf(tmp_path)
    result = RunFolder(run).result()
    result["test"]["lpips"], result["lpips_missing"] = 0.1234, None
    for row in result["test"]["per_image"]:
        row["lpips"] = 0.2345
    (run / "result.json").write_text(json.dumps(result))
    _, page = _page([run], tmp_path)
    assert "0.123" in page.text
    assert page.text.count("LPIPS 0.234") + page.text.count("LPIPS 0.235") == 6
    assert "No LPIPS" not in page.text


def test_missing_parts_are_said(tmp_path):
    _, page = _page([_nerf(tmp_path, whole=False), _pretrain(tmp_path, finished=False)], tmp_path)
    assert "No orbit video yet" in page.text
    assert "No scene.json" in page.text
    assert "No renders of held-out photos" in page.text
    assert "Unfinished:" in page.text


def test_an_unfinished_comparison_shows_its_curves(tmp_path):
    html, page = _page([_comparison(tmp_path, finished=False)], tmp_path)
    assert "Unfinished:" in page.text
    assert html.count("<svg") == 2


def test_arms_keep_their_colours_whatever_their_files_dates(tmp_path):
    run = open_run(tmp_path / "cmp", kind="comparison", settings={"arms": {"zeta": "", "alpha": ""}}, resume=False)
    for name in ("alpha", "zeta"):
        arm = open_run(run.path / "arms" / f"{name}-seed0", kind="arm", settings={}, resume=False)
        arm.log({"step": 1, "seconds": 1.0, "loss": 1.0, "epoch": 1, "val_accuracy": 0.25})
    html, _ = _page([run.path], tmp_path)
    assert "zeta goes from 25.00 % to 25.00 %; alpha goes" in html


def test_same_runs_same_page(all_runs, tmp_path):
    first = write_report(all_runs, tmp_path / "a.html").read_bytes()
    assert write_report(all_runs, tmp_path / "a.html").read_bytes() == first


def test_what_is_no_run(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds no run"):
        write_report([tmp_path / "empty"], tmp_path / "report.html")
    with pytest.raises(RunError, match="holds no run"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")
    with pytest.raises(RunError, match="at least one"):
        write_report([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("make", "key"), [(_probe, "val_accuracy"), (_comparison, "arms"), (_nerf, "test")])
def test_a_damaged_result_is_named(tmp_path, make, key):
    path = make(tmp_path)
    result = RunFolder(path).result()
    del result[key]
    (path / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match=key):
        write_report([path], tmp_path / "report.html")


def test_an_unknown_kind_is_shown_as_a_table(tmp_path):
    run = open_run(tmp_path / "tune", kind="tune", settings={}, resume=False)
    run.finish("tune", seconds=1, seed=0, fields={"fractions": [0.1, 1.0], "dataset": "cifar100"})
    _, page = _page([run.path], tmp_path)
    assert "0.1, 1" in page.text


def test_torch_is_not_needed(tmp_path):
    run = _probe(tmp_path)
    program = f"""
import sys
from nndl_suite.report.page import write_report
write_report([{str(run)!r}], {str(tmp_path / "report.html")!r})
assert not {{"torch", "matplotlib.pyplot"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_scene_in_the_drawings_frame(tmp_path):
    file = tmp_path / "scene.json"
    up = np.array([1.0, 2.0, -0.5])
    _write_scene(file, up=up.tolist(), center=[1, 1, 1])
    view = read_scene(file)
    centres = np.array([[0, -2, 0], [4, 0, 0]]) - 1.0
    lengths = np.linalg.norm(centres, axis=1)
    np.testing.assert_allclose(np.linalg.norm(view.centres, axis=1), lengths / lengths.max())
    np.testing.assert_allclose(view.centres[:, 2], centres @ (up / np.linalg.norm(up)) / lengths.max())
    forward = np.array([0.0, 1.0, 0.0])
    volume = np.linalg.det(np.stack([*centres, forward])) / lengths.max() ** 2
    assert np.linalg.det(np.stack([*view.centres, view.forwards[0]])) == pytest.approx(volume)  # turned, not mirrored
    assert view.test == (False, True)
    assert view.still().startswith(b"\x89PNG")
    assert len(view.drawing()["xyz"]) == 3 * len(view.xyz)


def test_a_scene_without_points(tmp_path):
    _write_scene(tmp_path / "scene.json", points={"xyz": [], "rgb": []})
    view = read_scene(tmp_path / "scene.json")
    assert view.caption == "2 cameras and no sparse points."
    assert view.still()


@pytest.mark.parametrize(
    "changes", [{"cameras": []}, {"up": [0, 0, 0]}, {"points": {"xyz": [[0, 0]], "rgb": []}}, {"center": None}]
)
def test_a_damaged_scene_is_named(tmp_path, changes):
    _write_scene(tmp_path / "scene.json", **changes)
    with pytest.raises(RunError, match="does not describe a scene"):
        read_scene(tmp_path / "scene.json")


def test_figures_take_the_pages_ink():
    svg = curves([Line(label="a < b & c", colour=0, x=[1, 2], y=[0.1, 0.2])], x="epoch", y="accuracy", percent=True)
    svg += curves([Line(label=name, colour=0, x=[1], y=[0.1]) for name in ("a < b", "c")], x="epoch", y="accuracy")
    svg += estimates(
        [Estimate(label="x", mean=0.5, ci95=None), Estimate(label="y", mean=1.0, ci95=(0.9, 1.0))], x="share"
    )
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert "a &lt; b" in svg
    assert "#0a0b0c" not in svg


def test_a_comparison_of_superclasses_shows_them(tmp_path):
    html, _ = _page([_comparison(tmp_path, superclasses={"fish": 0.04, "trees": -0.03})], tmp_path)
    assert "vit minus resnet18 by superclass, in points: fish +4.00; trees -3.00." in html
    assert "95 % interval; of so many intervals" in html


def test_a_comparison_of_one_seed_has_no_intervals(tmp_path):
    html, page = _page([_comparison(tmp_path, seeds=(0,), ci95=None)], tmp_path)
    assert "one seed: none" in page.text
    assert "vit minus resnet18 by class, in points: cat +3.00; dog -1.00." in html
    assert "a look and not a finding" in html


def test_a_failed_arm_is_said_and_the_other_is_shown(tmp_path):
    html, page = _page([_comparison(tmp_path, failed=True)], tmp_path)
    assert "resnet18, seed 0, has no score: resnet18, seed 0: loss is nan at <step> 40." in page.text
    assert "73.00 %" in page.text
    assert "last epoch" not in page.text
    assert html.count("<svg") == 4  # accuracy and loss by epoch and step, the arm's score, its corruptions


_WHERE = "On cifar100, with this recipe and 5 epochs,"


@pytest.mark.parametrize(
    ("mean", "ci95", "seeds", "expected"),
    [
        (0.02, (0.01, 0.03), 3, "vit is 1.00 to 3.00 points better than cnn (95 %, 3 paired seeds; mean 2.00)."),
        (-0.02, (-0.03, -0.01), 3, "cnn is 1.00 to 3.00 points better than vit (95 %, 3 paired seeds; mean 2.00)."),
        (-0.02, (-0.05, 0.01), 3, "no difference is shown: vit minus cnn is -5.00 to +1.00 points (95 %, 3 paired"),
        (0.0, (0.0, 0.0), 2, "no difference is shown"),
        (0.02, None, 1, "vit scored 2.00 points above cnn with the one seed that was trained."),
        (0.0, None, 1, "vit and cnn scored the same with the one seed that was trained."),
    ],
)
def test_conclusions_go_no_further_than_the_interval(mean, ci95, seeds, expected):
    told = words.conclusion(_WHERE, "cnn", "vit", mean=mean, ci95=ci95, seeds=seeds)
    assert told.startswith(f"{_WHERE} {expected}")


def test_what_may_not_be_concluded():
    assert words.reservation(seeds=3, tuning_trials=0) == (
        "This does not say which is better with another recipe, size, length of training or data set; "
        "the rates were not tuned."
    )
    assert "whether another seed would agree" in words.reservation(seeds=1, tuning_trials=0)
    assert words.reservation(seeds=3, tuning_trials=20).endswith("the rates were tuned with 20 trials each.")


def test_units_of_budgets():
    assert words.scale_of("flops", 2e15) == (1e15, "PFLOP")
    assert words.scale_of("flops", 2e12) == (1e12, "TFLOP")
    assert words.scale_of("seconds", 599) == (1.0, "seconds")
    assert words.scale_of("seconds", 600) == (60.0, "minutes")


def test_a_single_training_shows_accuracy_over_time(tmp_path):
    run = open_run(tmp_path / "fast", kind="training", settings={"arm": "whitened-cnn"}, resume=False)
    for epoch in range(1, 4):
        run.log({"step": epoch, "seconds": 400.0 * epoch, "loss": 1.0, "epoch": epoch, "val_accuracy": 0.2 * epoch})
    html, page = _page([run.path], tmp_path)
    assert "Unfinished:" in page.text
    assert html.count("<svg") == 2
    assert "training time (minutes)" in html
    fields = {
        "arm": "whitened-cnn",
        "parameters": 7_420_600,
        "dataset": "cifar100",
        "epochs": 3,
        "test_accuracy": 0.6123,
        "test_accuracy_ci95": [0.6, 0.62],
        "images_per_second": 540.4,
        "recipe": {"test_mirrored": True},
    }
    run.finish("training", seconds=1200, seed=0, fields=fields)
    _, page = _page([run.path], tmp_path)
    for expected in ("61.23 %", "60.00 to 62.00 %", "7,420,600", "540", "20.0 min", "its mirror's"):
        assert expected in page.text, expected


def test_numbers_in_words():
    assert words.duration(59.94) == "59.9 s"
    assert words.duration(3599) == "1 h 0 min"
    assert words.duration(90) == "1.5 min"
    assert words.flat({"a": {"b": True, "c": [1, 2.5]}, "d": None}) == [
        ("a.b", "yes"),
        ("a.c", "1, 2.5"),
        ("d", "none"),
    ]
