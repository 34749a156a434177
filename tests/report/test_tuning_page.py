"""The page of a tuning, from what its `result.json` holds."""

import json
import re

import pytest

from nndl_suite.errors import RunError
from nndl_suite.report.page import write_report
from nndl_suite.training.files import write_json
from nndl_suite.training.runs import open_run


def _trial(number, state, accuracy, curve, rate, reason=None):
    return {
        "number": number,
        "settings": {"rate": rate, "label_smoothing": 0.1, "batch_size": 64} if rate else {},
        "state": state,
        "val_accuracy": accuracy,
        "curve": curve,
        "seconds": 1.5,
        "reason": reason,
    }


def _tuning(root, *, finished=True, importance=True):
    run = open_run(root / "tune-vit", kind="tuning", settings={"arm": "vit"}, resume=False)
    trials = [
        _trial(0, "complete", 0.5, [0.25, 0.5], 1e-3),
        _trial(1, "failed", None, [], 1e-2, "loss is <nan> at step 3"),
        _trial(3, "pruned", 0.125, [0.125], 1e-4),
        _trial(4, "complete", 0.75, [0.375, 0.75], 2e-3),
        _trial(5, "failed", None, [], None, "3 workers died"),
    ]
    fields = {
        "arm": "vit<b>",
        "dataset": "cifar100",
        "trials": trials,
        "best": trials[3],
        "space": {
            "rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "label_smoothing": {"low": 0, "high": 0.3, "log": False},
            "batch_size": {"values": [64, 128]},
        },
        "budget": {"trials": 5, "epochs": 2, "sampler": "TPE", "pruner": "median of 2 or more complete trials"},
        "importance": {"rate": 0.75, "label_smoothing": 0.25, "batch_size": 0.0} if importance else None,
        "at_edge": ["rate"],
        "put_back": 2,
        "storage": "study.journal",
    }
    if finished:
        run.finish("tuning", seconds=10, seed=0, fields=fields)
    return run.path


def _page(root, *runs):
    return write_report(runs, root / "report.html").read_text(encoding="utf-8")


def test_what_was_chosen_out_of_what(tmp_path):
    html = _page(tmp_path, _tuning(tmp_path))
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "vit&lt;b&gt; does best with rate 0.002, label smoothing 0.1, batch size 64: 75.00 %" in text
    assert "The best of 5 trials of 2 epochs each, so its accuracy flatters; the test images were not read." in text
    assert "rate 0.0001 to 0.01 (log); label smoothing 0 to 0.3; batch size 64 or 128." in text
    assert "Begun again after a worker was stopped: 2." in text
    assert "the best rate lies at an end of its span" in text
    assert "loss is &lt;nan&gt; at step 3" in text
    assert "3 workers died" in text


def test_its_drawings_say_what_they_show(tmp_path):
    html = _page(tmp_path, _tuning(tmp_path))
    alts = re.findall(r'role="img" aria-label="([^"]+)"', html)
    assert alts == [
        "validation accuracy by trial: the best so far goes from 50.00 % to 75.00 %.",
        "validation accuracy by epoch: the best trial goes from 37.50 % to 75.00 %.",
        "share of importance: rate 75.00 %; label smoothing 25.00 %; batch size 0.00 %.",
        "Validation accuracy by rate: the highest at 0.002.",
        "Validation accuracy by label smoothing: the highest at 0.1.",
    ]
    without = tmp_path / "few"
    assert "importance" not in "".join(
        re.findall(r'aria-label="([^"]+)"', _page(without, _tuning(without, importance=False)))
    )


def test_an_unfinished_one_says_so(tmp_path):
    assert "Unfinished:" in _page(tmp_path, _tuning(tmp_path, finished=False))


def test_a_damaged_result_is_named(tmp_path):
    path = _tuning(tmp_path)
    result = json.loads((path / "result.json").read_text())
    write_json(path / "result.json", result | {"trials": [{"number": 0}]})
    with pytest.raises(RunError, match="is not what a tuning run writes"):
        _page(tmp_path, path)
