"""The page of a study, a scale and a sweep, from what their `result.json` hold."""

import json
import re

import pytest
from made_studies import scale, study, sweep

from nndl_suite.errors import RunError
from nndl_suite.report.page import write_report
from nndl_suite.report.studies import formula
from nndl_suite.training.runs import RunFolder


def _page(run, tmp_path):
    html = write_report([run], tmp_path / "report.html").read_text()
    return html, re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_a_study(tmp_path):
    html, text = _page(study(tmp_path), tmp_path)
    for expected in (
        "simclr on &lt;b&gt;",
        "40.00 %",
        "38.00 to 42.00 %",
        "-10.00 -11.00 to -9.00",
        "+30.00 +29.00 to +31.00",
        "weights are &lt;not&gt; here",
        "simclr on &lt;b&gt;: features have &lt;collapsed&gt;.",
        "gains paired by seed",
        "oak elm 12.50 %",
        "8 test images in the plane of the first two principal components (37.50 % of their variance)",
        "Gains by superclass",
        "over random +35.00 +20.00",
    ):
        assert expected in text, expected
    assert "<b>" not in html
    assert html.count("<svg") == 2 + 1 + (1 + 2)  # two protocols, the gains, one map and the signs of its key
    assert "Gains by superclass" not in _page(study(tmp_path / "b", superclasses=False), tmp_path)[1]


def test_gains_by_class_where_there_are_no_superclasses(tmp_path):
    html, _ = _page(study(tmp_path, superclasses=False, mapped=False), tmp_path)
    assert html.count("<svg") == 3
    assert 'aria-label="Points gained over random: dog +40.00; cat +30.00; elm +20.00."' in html


def test_an_unfinished_study_says_so(tmp_path):
    html, text = _page(study(tmp_path, finished=False), tmp_path)
    assert "--resume goes on with it" in text
    assert "<svg" not in html


def test_a_scale(tmp_path):
    html, text = _page(scale(tmp_path), tmp_path)
    for expected in (
        "byol (resnet18) on parts of cifar10, each within the next larger one, the shares of the classes kept",
        "5,000",
        "error = 0.500 + 0.123 u^-0.400 (root mean square of the rest: 1.23 %)",
    ):
        assert expected in text, expected
    assert html.count("<svg") == 1
    assert "fixed epochs from 13.00 % at 5,000 images to 40.00 % at 50,000" in html
    assert "Fitted at" not in _page(scale(tmp_path / "b", fitted=False), tmp_path)[1]


def test_a_sweep_says_which_figure_to_believe(tmp_path):
    html, text = _page(sweep(tmp_path), tmp_path)
    assert "test images were looked at for the chosen combination alone : 34.56 % (33.00 to 36.00 %)" in text
    assert text.count("not read") == 1
    assert "believe that one" in text
    assert "Validation accuracy by temperature, batch size; the chosen combination in the other colour." in text
    assert "Not trained to the end: temperature 9, batch size 256: loss is nan at step 3" in text
    assert html.count("<svg") == 1


@pytest.mark.parametrize(("make", "key"), [(study, "rows"), (scale, "points"), (sweep, "vary"), (sweep, "test_mean")])
def test_a_damaged_result_is_named(tmp_path, make, key):
    path = make(tmp_path)
    result = RunFolder(path).result()
    del result[key]
    (path / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match=key):
        write_report([path], tmp_path / "report.html")


def test_the_law_in_letters():
    assert formula({"form": "power law", "a": 0.3, "b": 0.1234, "c": 0.5}) == "error = 0.300 + 0.123 u^-0.500"
    assert formula({"form": "power law", "a": 0.3, "b": -0.1234, "c": 0.5}) == "error = 0.300 - 0.123 u^-0.500"
    assert formula({"form": "log-linear", "a": 0.3, "b": -0.1, "c": None}) == "error = 0.300 + 0.100 ln u"
    assert formula({"form": "log-linear", "a": 0.3, "b": 0.1234, "c": None}) == "error = 0.300 - 0.123 ln u"
