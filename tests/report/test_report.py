import json
import re
import subprocess
import sys

import numpy as np
import pytest
from made_runs import comparison, nerf, pretrain, probe, write_scene
from reading import page_of

from nndl_suite.errors import RunError
from nndl_suite.report import words
from nndl_suite.report.figures import Estimate, Line, curves, estimates
from nndl_suite.report.page import write_report
from nndl_suite.report.scene_view import read_scene
from nndl_suite.training.runs import RunFolder, open_run


@pytest.fixture
def all_runs(tmp_path):
    probes = [probe(tmp_path), probe(tmp_path, "probe-random", 0.12)]
    return [*probes, pretrain(tmp_path), comparison(tmp_path), nerf(tmp_path)]


def test_one_file_and_nothing_outside_it(all_runs, tmp_path):
    html, page = page_of(all_runs, tmp_path)
    assert page.loads
    assert all(load.startswith(("data:", "#")) for load in page.loads)
    assert not re.findall(r"url\((?!#)", html)
    assert "@import" not in html
    assert "fetch(" not in html
    assert page.open == []
    assert "default-src 'none'" in html  # so that a browser loads nothing, whatever a run's files say


def test_the_page_is_in_order(all_runs, tmp_path):
    _, page = page_of(all_runs, tmp_path)
    assert len(page.ids) == len(set(page.ids))
    assert all(image.get("alt") for image in page.images)
    assert page.named("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(page.named(landmark)) == 1, landmark
    inputs = {one["id"] for one in page.named("input")}
    assert inputs
    assert inputs == {one["for"] for one in page.named("label")}
    assert {one["href"].removeprefix("#") for one in page.named("a")} <= set(page.ids)
    assert {one["aria-labelledby"] for one in page.named("section")} <= set(page.ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(deeper <= level + 1 for level, deeper in zip(levels, levels[1:], strict=False))
    assert all(one.get("scope") for one in page.named("th"))
    for region in page.named("div"):
        assert region.get("class") != "wide" or (region["tabindex"] == "0" and region["aria-label"])


def test_what_the_page_says(all_runs, tmp_path):
    html, page = page_of(all_runs, tmp_path)
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
    # the probes together and their two maps with three keys each; pretraining's loss, neighbours, rank and map; the
    # comparison's three axes, loss, accuracy, corruptions and classes; this nerf run logged nothing
    assert html.count("<svg") == (1 + 2 * (1 + 3)) + 4 + 7 + 0
    assert "<script>alert" not in html


def test_held_out_photos_run_from_worst_to_best(all_runs, tmp_path):
    _, page = page_of(all_runs, tmp_path)
    shown = [float(value) for value in re.findall(r"\.jpg · ([\d.]+) dB", page.text)]
    assert shown == [20, 21, 23, 25, 27, 29]
    assert sum(image["alt"].startswith("Render") for image in page.images) == 6
    assert sum(image["alt"].startswith("Difference") for image in page.images) == 6


def test_a_run_of_an_earlier_version_has_no_gap_and_no_errors(tmp_path):
    run = nerf(tmp_path)
    result = RunFolder(run).result()
    for key in ("train", "gap", "photo_size", "lpips_missing", "error_scale", "max_side"):
        del result[key]
    for row in result["test"]["per_image"]:
        del row["lpips"]
    (run / "result.json").write_text(json.dumps(result))
    for file in (run / "views").glob("*-error.jpg"):
        file.unlink()
    _, page = page_of([run], tmp_path)
    assert "25.70 dB" in page.text
    assert sum(image["alt"].startswith("Render") for image in page.images) == 6
    assert not any(image["alt"].startswith("Difference") for image in page.images)


def test_lpips_is_shown_where_it_is_known(tmp_path):
    run = nerf(tmp_path)
    result = RunFolder(run).result()
    result["test"]["lpips"], result["lpips_missing"] = 0.1234, None
    for row in result["test"]["per_image"]:
        row["lpips"] = 0.2345
    (run / "result.json").write_text(json.dumps(result))
    _, page = page_of([run], tmp_path)
    assert "0.123" in page.text
    assert page.text.count("LPIPS 0.234") + page.text.count("LPIPS 0.235") == 6
    assert "No LPIPS" not in page.text


def test_missing_parts_are_said(tmp_path):
    _, page = page_of([nerf(tmp_path, whole=False), pretrain(tmp_path, finished=False)], tmp_path)
    assert "No orbit yet" in page.text
    assert "No scene.json" in page.text
    assert "No renders of held-out photos" in page.text
    assert "Unfinished:" in page.text


def test_an_unfinished_comparison_shows_its_curves(tmp_path):
    html, page = page_of([comparison(tmp_path, finished=False)], tmp_path)
    assert "Unfinished:" in page.text
    assert html.count("<svg") == 2


def test_arms_keep_their_colours_whatever_their_files_dates(tmp_path):
    run = open_run(tmp_path / "cmp", kind="comparison", settings={"arms": {"zeta": "", "alpha": ""}}, resume=False)
    for name in ("alpha", "zeta"):
        arm = open_run(run.path / "arms" / f"{name}-seed0", kind="arm", settings={}, resume=False)
        arm.log({"step": 1, "seconds": 1.0, "loss": 1.0, "epoch": 1, "val_accuracy": 0.25})
    html, _ = page_of([run.path], tmp_path)
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
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"there are runs in it: .*inner$"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(RunError, match="at least one"):
        write_report([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("make", "key"), [(probe, "val_accuracy"), (comparison, "arms"), (nerf, "test")])
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
    _, page = page_of([run.path], tmp_path)
    assert "0.1, 1" in page.text


def test_torch_is_not_needed(tmp_path):
    run = probe(tmp_path)
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
    write_scene(file, up=up.tolist(), center=[1, 1, 1])
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
    write_scene(tmp_path / "scene.json", points={"xyz": [], "rgb": []})
    view = read_scene(tmp_path / "scene.json")
    assert view.caption == "2 cameras and no sparse points."
    assert view.still()


@pytest.mark.parametrize(
    "changes", [{"cameras": []}, {"up": [0, 0, 0]}, {"points": {"xyz": [[0, 0]], "rgb": []}}, {"center": None}]
)
def test_a_damaged_scene_is_named(tmp_path, changes):
    write_scene(tmp_path / "scene.json", **changes)
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
    html, _ = page_of([comparison(tmp_path, superclasses={"fish": 0.04, "trees": -0.03})], tmp_path)
    assert "vit minus resnet18 by superclass, in points: fish +4.00; trees -3.00." in html
    assert "95 % interval; of so many intervals" in html


def test_a_comparison_of_one_seed_has_no_intervals(tmp_path):
    html, page = page_of([comparison(tmp_path, seeds=(0,), ci95=None)], tmp_path)
    assert "one seed: none" in page.text
    assert "vit minus resnet18 by class, in points: cat +3.00; dog -1.00." in html
    assert "a look and not a finding" in html


def test_a_failed_arm_is_said_and_the_other_is_shown(tmp_path):
    html, page = page_of([comparison(tmp_path, failed=True)], tmp_path)
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
    html, page = page_of([run.path], tmp_path)
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
    _, page = page_of([run.path], tmp_path)
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
