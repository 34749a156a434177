"""Several runs on one page: an overview, tables by kind, and a few lines for each run."""

import json

import pytest
from made_runs import comparison, nerf, pretrain, probe
from reading import page_of

from nndl_suite.report.answers import answer
from nndl_suite.report.colours import DARK_GROUND, DARK_PALETTE, LIGHT_GROUND, PALETTE
from nndl_suite.training.intervals import student_interval
from nndl_suite.training.runs import RunFolder


def test_runs_of_a_kind_stand_beside_one_another(tmp_path):
    probes = [probe(tmp_path), probe(tmp_path, "two", 0.2)]
    runs = [pretrain(tmp_path), pretrain(tmp_path, "again"), nerf(tmp_path), *probes]
    html, page = page_of(runs, tmp_path)
    assert "At a glance" in page.text
    assert "Pretraining: side by side" in page.text
    assert "What the features are worth: side by side" in page.text
    assert "Reconstructions: side by side" not in page.text
    assert "simclr goes from 5.00 % to 50.00 %; again goes from" in html  # in one drawing
    links = [one["href"] for one in page.named("a")]
    assert links.count("#run-3") == 2  # in the list and in the overview


def test_a_lone_run_has_no_overview(tmp_path):
    _, page = page_of([probe(tmp_path)], tmp_path)
    assert "At a glance" not in page.text
    assert page.named("nav") == []
    assert "Report on probe" in page.text


def test_unfinished_runs_stand_in_the_overview(tmp_path):
    _, page = page_of([pretrain(tmp_path, finished=False), probe(tmp_path)], tmp_path)
    assert "unfinished" in page.text


def test_what_was_asked_what_came_out_and_how_sure(tmp_path):
    result = RunFolder(nerf(tmp_path)).result()
    told = answer("nerf", result)
    low, high = student_interval([row["psnr"] for row in result["test"]["per_image"]])
    assert told.interval == f"{low:.2f} to {high:.2f} dB"
    assert "10 photos" in told.sure
    result["test"]["per_image"] = result["test"]["per_image"][:1]
    assert answer("nerf", result).interval == ""
    of_one = answer("comparison", RunFolder(comparison(tmp_path, seeds=(0,), ci95=None)).result())
    assert of_one.interval == ""
    assert "One seed" in of_one.sure
    assert answer("probe", RunFolder(probe(tmp_path)).result()).sure.startswith("One classifier on 60 test images")
    assert answer("something new", {}) is None


def test_the_command_that_repeats_it(tmp_path):
    run = probe(tmp_path)
    _, page = page_of([run], tmp_path)
    assert "Python code began this run" in page.text
    config = RunFolder(run).config()
    config["command"] = ["nndl-suite", "ssl", "probe", "--out", "a folder/<b>"]
    (run / "config.json").write_text(json.dumps(config))
    _, page = page_of([run], tmp_path)
    assert "nndl-suite ssl probe --out 'a folder/<b>'" in page.text


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one, other):
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("ground", "palette"), [(LIGHT_GROUND, PALETTE), (DARK_GROUND, DARK_PALETTE)])
def test_colours_stand_out_from_both_grounds(ground, palette):
    assert ground.keys() == LIGHT_GROUND.keys()
    for behind in (ground["ground"], ground["panel"]):
        assert min(_contrast(ground[name], behind) for name in ("ink", "soft", "link")) >= 4.5
        assert _contrast(ground["edge"], behind) >= 3
        assert min(_contrast(colour, behind) for colour in palette) >= 4.5
    assert _contrast(ground["link"], ground["ground"]) >= 4.5  # the chosen switch, the other way round
