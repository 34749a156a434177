"""The page of a tuning, from what its `result.json` holds."""

import json
import re

import pytest
from made_studies import tuning

from nndl_suite.errors import RunError
from nndl_suite.report.page import write_report
from nndl_suite.training.files import write_json


def _page(root, *runs):
    return write_report(runs, root / "report.html").read_text(encoding="utf-8")


def test_what_was_chosen_out_of_what(tmp_path):
    html = _page(tmp_path, tuning(tmp_path))
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "vit&lt;b&gt; does best with rate 0.002, label smoothing 0.1, batch size 64: 75.00 %" in text
    assert "The best of 5 trials of 2 epochs each, so its accuracy flatters; the test images were not read." in text
    assert "rate 0.0001 to 0.01 (log); label smoothing 0 to 0.3; batch size 64 or 128." in text
    assert "Begun again after a worker was stopped: 2." in text
    assert "the best rate lies at an end of its span" in text
    assert "loss is &lt;nan&gt; at step 3" in text
    assert "3 workers died" in text


def test_its_drawings_say_what_they_show(tmp_path):
    html = _page(tmp_path, tuning(tmp_path))
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
        re.findall(r'aria-label="([^"]+)"', _page(without, tuning(without, importance=False)))
    )


def test_an_unfinished_one_says_so(tmp_path):
    assert "Unfinished:" in _page(tmp_path, tuning(tmp_path, finished=False))


def test_a_damaged_result_is_named(tmp_path):
    path = tuning(tmp_path)
    result = json.loads((path / "result.json").read_text())
    write_json(path / "result.json", result | {"trials": [{"number": 0}]})
    with pytest.raises(RunError, match="is not what a tuning run writes"):
        _page(tmp_path, path)
