"""The page of a study, a scale and a sweep, from what their `result.json` hold."""

import json
import re

import pytest

from nndl_suite.errors import RunError
from nndl_suite.report.page import write_report
from nndl_suite.report.studies import formula
from nndl_suite.training.files import write_json
from nndl_suite.training.runs import RunFolder, open_run

CLASSES = ["cat", "dog", "oak", "elm"]
SUPERCLASSES = {"animals": [0, 1], "trees": [2, 3]}


def _gain(mean, *, superclasses):
    return {
        "mean": mean,
        "ci95": [mean - 0.01, mean + 0.01],
        "interval": "student-t over seeds",
        "per_class": [mean, mean + 0.1, None, mean - 0.1],
        "per_superclass": {"animals": mean + 0.05, "trees": mean - 0.1} if superclasses else {},
    }


def _row(name, kind, mean, protocol, *, superclasses):
    return {
        "name": name,
        "kind": kind,
        "protocol": protocol,
        "seeds": [0, 1],
        "mean": mean,
        "ci95": [mean - 0.02, mean + 0.02],
        "interval": "student-t over seeds",
        "val_accuracy": mean,
        "resolution": 32,
        "gain_over_scratch": None if kind == "scratch" else _gain(mean - 0.5, superclasses=superclasses),
        "warning": "features have <collapsed>" if kind == "ssl" else None,
        "gain_over_random": None if kind == "random" else _gain(mean - 0.1, superclasses=superclasses),
    }


def _study(root, *, superclasses=True, finished=True, mapped=True):
    run = open_run(root / "study", kind="study", settings={"methods": ["simclr"]}, resume=False)
    rows = [
        _row(name, kind, mean, protocol, superclasses=superclasses)
        for name, kind, mean in (("simclr on <b>", "ssl", 0.4), ("random", "random", 0.1), ("scratch", "scratch", 0.5))
        for protocol in ("linear", "knn")
    ]
    fields = {
        "downstream": "cifar100",
        "datasets": ["cifar10"],
        "methods": ["simclr"],
        "protocols": ["linear", "knn"],
        "seeds": [0, 1],
        "backbone": "resnet18",
        "class_names": CLASSES,
        "superclasses": SUPERCLASSES if superclasses else {},
        "rows": rows,
        "absent": {"imagenet": "weights are <not> here"},
        "best": {"name": "simclr on <b>", "protocol": "linear"},
        "best_ssl": {"name": "simclr on <b>", "protocol": "linear"},
        "confusions": [{"true": "oak", "predicted": "elm", "count": 12.5, "share": 0.125}],
    }
    if mapped:
        xy = [[0.1 * i, -0.2 * i] for i in range(8)]
        maps = [{"name": "simclr on <b>", "explained": [0.25, 0.125], "xy": xy}]
        content = {"method": "first two principal components", "labels": [0, 1, 2, 3] * 2, "maps": maps}
        write_json(run.path / "embedding.json", content)
    if finished:
        run.finish("study", seconds=100, seed=0, fields=fields)
    return run.path


def _scale(root, *, fitted=True):
    run = open_run(root / "scale", kind="scale", settings={}, resume=False)
    points, sizes, curves = [], [], {}
    for fixed in ("epochs", "steps"):
        for fraction, images in ((0.1, 5000), (1.0, 50000)):
            sizes.append({"fixed": fixed, "fraction": fraction, "images": images, "mean": 0.3, "ci95": None})
            points.append(
                {"fixed": fixed, "images": images, "seed": 0, "test_accuracy": 0.3 * fraction + 0.1, "warning": None}
            )
        band = {"images": [5000.0, 50000.0], "accuracy": [0.1, 0.4], "low": [0.05, 0.3], "high": [0.2, 0.5]}
        curves[fixed] = {"form": "power law", "a": 0.5, "b": 0.123, "c": 0.4, "rmse": 0.0123, **band}
    fields = {
        "dataset": "cifar10",
        "downstream": "cifar100",
        "method": "byol",
        "backbone": "resnet18",
        "protocol": "linear",
        "fractions": [0.1, 1.0],
        "seeds": [0],
        "fixed": ["epochs", "steps"],
        "stratified": True,
        "points": points,
        "sizes": sizes,
        "curves": curves if fitted else {},
    }
    run.finish("scale", seconds=100, seed=0, fields=fields)
    return run.path


def _sweep(root):
    run = open_run(root / "sweep", kind="sweep", settings={}, resume=False)
    rows = [
        {
            "settings": {"temperature": temperature, "batch_size": 256},
            "val_accuracy": [mean],
            "mean": mean,
            "ci95": None,
            "final_loss": 5.0,
            "effective_rank": 42.0,
            "steps": 1950,
            "seconds": 90.0,
            "warning": None,
        }
        for temperature, mean in ((0.1, 0.31), (0.5, 0.36))
    ]
    fields = {
        "dataset": "cifar10",
        "downstream": "cifar100",
        "method": "simclr",
        "backbone": "resnet18",
        "design": "product",
        "vary": {"temperature": [0.1, 0.5], "batch_size": [256]},
        "seeds": [0],
        "rows": rows,
        "diverged": [{"settings": {"temperature": 9.0, "batch_size": 256}, "why": "loss is nan at step 3"}],
        "chosen": 1,
        "test_accuracy": [0.3456],
        "test_mean": 0.3456,
        "test_ci95": [0.33, 0.36],
        "interval": "wilson over test images",
    }
    run.finish("sweep", seconds=100, seed=0, fields=fields)
    return run.path


def _page(run, tmp_path):
    html = write_report([run], tmp_path / "report.html").read_text()
    return html, re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_a_study(tmp_path):
    html, text = _page(_study(tmp_path), tmp_path)
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
    assert "Gains by superclass" not in _page(_study(tmp_path / "b", superclasses=False), tmp_path)[1]


def test_gains_by_class_where_there_are_no_superclasses(tmp_path):
    html, _ = _page(_study(tmp_path, superclasses=False, mapped=False), tmp_path)
    assert html.count("<svg") == 3
    assert 'aria-label="Points gained over random: dog +40.00; cat +30.00; elm +20.00."' in html


def test_an_unfinished_study_says_so(tmp_path):
    html, text = _page(_study(tmp_path, finished=False), tmp_path)
    assert "--resume goes on with it" in text
    assert "<svg" not in html


def test_a_scale(tmp_path):
    html, text = _page(_scale(tmp_path), tmp_path)
    for expected in (
        "byol (resnet18) on parts of cifar10, each within the next larger one, the shares of the classes kept",
        "5,000",
        "error = 0.500 + 0.123 u^-0.400 (root mean square of the rest: 1.23 %)",
    ):
        assert expected in text, expected
    assert html.count("<svg") == 1
    assert "fixed epochs from 13.00 % at 5,000 images to 40.00 % at 50,000" in html
    assert "Fitted at" not in _page(_scale(tmp_path / "b", fitted=False), tmp_path)[1]


def test_a_sweep_says_which_figure_to_believe(tmp_path):
    html, text = _page(_sweep(tmp_path), tmp_path)
    assert "test images were looked at for the chosen combination alone : 34.56 % (33.00 to 36.00 %)" in text
    assert text.count("not read") == 1
    assert "believe that one" in text
    assert "Validation accuracy by temperature, batch size; the chosen combination in the other colour." in text
    assert "Not trained to the end: temperature 9, batch size 256: loss is nan at step 3" in text
    assert html.count("<svg") == 1


@pytest.mark.parametrize(
    ("make", "key"), [(_study, "rows"), (_scale, "points"), (_sweep, "vary"), (_sweep, "test_mean")]
)
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
