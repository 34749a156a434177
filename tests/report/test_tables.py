import csv
import io
import json
import re

import pytest
from typer.testing import CliRunner

from nndl_suite.cli.app import app
from nndl_suite.errors import ConfigError, RunError
from nndl_suite.report.measured import measured
from nndl_suite.report.tables import write_table
from nndl_suite.training.runs import open_run

RESULTS = {
    "probe": {
        "protocol": "linear",
        "features": "runs/sim_clr & friends",
        "dataset": "cifar100",
        "resolution": 32,
        "test_accuracy": 0.4321,
        "test_accuracy_ci95": [0.4225, 0.4418],
        "val_accuracy": 0.44,
    },
    "pretrain": {
        "method": "simclr",
        "dataset": "cifar10",
        "epochs": 100,
        "final_loss": 4.123456,
        "effective_rank": 55.5,
        "images_per_second": 811.2,
    },
    "comparison": {
        "dataset": "demo",
        "epochs": 2,
        "arms": [
            {
                "name": name,
                "parameters": 1_109_240,
                "flops": 109_272_320,
                "seeds": [0, 1],
                "mean": mean,
                "ci95": [mean - 0.01, mean + 0.01],
                "seconds": 12.34,
                "images_per_second": 455.6,
                "measures": {"top5": None, "nll": {"mean": 1.5, "ci95": None}},
            }
            for name, mean in (("resnet18", 0.5), ("vit", 0.4))
        ],
        "difference": {"mean": -0.1, "ci95": [-0.125, -0.075], "measures": {"nll": {"mean": 0.25, "ci95": None}}},
    },
    "training": {
        "arm": "whitened-cnn",
        "dataset": "cifar100",
        "epochs": 16,
        "test_accuracy": 0.7,
        "test_accuracy_ci95": [0.69, 0.71],
        "top5": None,
        "train_accuracy": 0.99,
        "ece": 0.19,
        "nll": 1.39,
        "parameters": 7_420_600,
        "flops": 443_006_528,
        "images_per_second": 445.3,
    },
    "tuning": {
        "arm": "vit",
        "dataset": "demo",
        "best": {"settings": {"rate": 0.0012, "batch_size": 64}, "val_accuracy": 0.61},
        "budget": {"trials": 8, "epochs": 2},
    },
    "nerf": {
        "test": {"psnr": 28.484, "ssim": 0.8251, "lpips": None},
        "resolution": [270, 480],
        "steps": 1000,
        "test_images": 7,
        "train_seconds": 55.0,
        "render_seconds_per_frame": 1.13,
    },
    "study": {
        "downstream": "cifar100",
        "rows": [
            {
                "name": "simclr on cifar10",
                "protocol": "knn",
                "resolution": 32,
                "seeds": [0],
                "mean": 0.2,
                "ci95": [0.19, 0.21],
                "gain_over_scratch": None,
                "gain_over_random": {"mean": 0.05, "ci95": [0.04, 0.06]},
            }
        ],
    },
    "scale": {
        "dataset": "cifar10",
        "downstream": "cifar100",
        "method": "simclr",
        "protocol": "linear",
        "seeds": [0, 1],
        "sizes": [{"fixed": "epochs", "fraction": 0.1, "images": 5000, "mean": 0.15, "ci95": None}],
    },
    "sweep": {
        "dataset": "cifar10",
        "downstream": "cifar100",
        "method": "simclr",
        "seeds": [0],
        "chosen": 1,
        "test_mean": 0.25,
        "test_ci95": [0.24, 0.26],
        "rows": [
            {"settings": {"temperature": 0.1}, "mean": 0.2, "ci95": None, "effective_rank": 30.0},
            {"settings": {"temperature": 0.5}, "mean": 0.3, "ci95": None, "effective_rank": 40.0},
        ],
    },
}


def finished(folder, kind, **changed):
    run = open_run(folder, kind=kind, settings={}, resume=False)
    run.finish(kind, seconds=66.6, seed=0, fields={**RESULTS[kind], **changed})
    return run.path


@pytest.fixture
def runs(tmp_path):
    return [finished(tmp_path / f"my_{kind}", kind) for kind in RESULTS]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_row_for_each_figure_with_unit_and_interval(runs):
    rows = rows_of(write_table(runs, "csv"))
    assert {row["kind"] for row in rows} == set(RESULTS)
    (accuracy,) = [row for row in rows if row["kind"] == "probe" and row["measure"] == "test accuracy"]
    assert accuracy == {
        "run": "my_probe",
        "kind": "probe",
        "name": "runs/sim_clr & friends",
        "setting": "linear on cifar100, 32 px",
        "measure": "test accuracy",
        "unit": "share",
        "value": "0.4321",
        "low": "0.4225",
        "high": "0.4418",
        "seeds": "1",
    }
    (psnr,) = [row for row in rows if row["measure"] == "PSNR"]
    assert (psnr["unit"], psnr["value"], psnr["low"]) == ("dB", "28.484", "")


def test_json_says_the_same_as_csv(runs):
    told = json.loads(write_table(runs, "json"))["rows"]
    rows = rows_of(write_table(runs, "csv"))
    assert len(told) == len(rows)
    for one, row in zip(told, rows, strict=True):
        assert float(row["value"]) == one["value"]
        assert [row["low"], row["high"]] == (["", ""] if one["ci95"] is None else [str(end) for end in one["ci95"]])


def test_what_was_not_measured_has_no_row(runs):
    rows = rows_of(write_table(runs, "csv"))
    assert not [row for row in rows if row["measure"] in ("LPIPS", "top-5 accuracy", "gain over scratch")]


def test_a_comparison_ends_with_its_paired_difference(tmp_path):
    figures = measured(finished(tmp_path / "cmp", "comparison"))
    (difference,) = [one for one in figures if one.name == "vit minus resnet18" and one.measure == "test accuracy"]
    assert (difference.value, difference.ci95, difference.seeds) == (-0.1, (-0.125, -0.075), 2)
    assert difference.unit == "difference of shares"


def test_of_a_comparison_that_failed_in_part_the_rest_is_there(tmp_path):
    arms = [dict(arm) for arm in RESULTS["comparison"]["arms"]]
    arms[1] = {"name": "vit", "parameters": 5, "flops": 6, "seeds": []} | dict.fromkeys(
        ("mean", "ci95", "seconds", "images_per_second")
    )
    figures = measured(finished(tmp_path / "cmp", "comparison", arms=arms, difference=None))
    assert [one.measure for one in figures if one.name == "vit"] == ["parameters", "FLOPs"]


def test_a_sweep_tests_the_chosen_row_alone(tmp_path):
    figures = measured(finished(tmp_path / "sweep", "sweep"))
    (tested,) = [one for one in figures if one.measure == "test accuracy"]
    assert tested.name == "simclr, temperature 0.5"
    assert tested.setting.endswith("chosen")


def cells_of(line):
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_is_a_table_for_each_kind_with_as_many_cells_in_each_row(runs):
    tables = write_table(runs, "markdown").split("\n\n")
    assert len(tables) == len(RESULTS)
    for text in tables:
        lines = text.strip().splitlines()
        assert len({len(cells_of(line)) for line in lines}) == 1
        assert re.fullmatch(r"\|(-+\|)+(-+:\|)+", lines[1])
    comparison = [cells_of(line) for line in tables[list(RESULTS).index("comparison")].splitlines()]
    column = comparison[0].index("test accuracy (%)")
    assert [row[column] for row in comparison[2:]] == [
        "50.00 [49.00, 51.00]",
        "40.00 [39.00, 41.00]",
        "-10.00 [-12.50, -7.50]",
    ]
    assert comparison[0].index("NLL (nats)") < comparison[0].index("parameters")
    assert comparison[2][comparison[0].index("parameters")] == "1,109,240"


@pytest.mark.parametrize("name", ["a|b", "a\\|b", "*bold*", "[link](x)", "`code`", "<b>", "a_b_c"])
def test_no_name_breaks_a_markdown_table(tmp_path, name):
    text = write_table([finished(tmp_path / "run", "probe", features=name)], "markdown")
    assert cells_of(text.splitlines()[2])[1] == name


def test_latex_is_a_tabular_for_each_kind_with_as_many_cells_in_each_row(runs):
    text = write_table(runs, "latex")
    tabulars = re.findall(r"\\begin\{tabular\}\{(l+)(r+)\}\n\\toprule\n(.*?)\\bottomrule\n\\end\{tabular\}", text, re.S)
    assert len(tabulars) == len(RESULTS)
    for words, numbers, body in tabulars:
        lines = [line for line in body.splitlines() if line != r"\midrule"]
        assert all(line.endswith(r" \\") for line in lines)
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(words) + len(numbers)}
    assert r"$-$10.00 [$-$12.50, $-$7.50]" in text
    assert r"runs/sim\_clr \& friends" in text
    assert r"(\%)" in text
    assert not re.search(r"(?<!\\)[%#]", text.replace("% \\usepackage{booktabs}\n", ""))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (r"C:\runs", r"C:\textbackslash{}runs"),
        ("50 % of $5 #1", r"50 \% of \$5 \#1"),
        ("{a}^~", r"\{a\}\textasciicircum{}\textasciitilde{}"),
        ("non-0 x-1", "non-0 x-1"),
    ],
)
def test_no_name_breaks_a_latex_table(tmp_path, name, written):
    text = write_table([finished(tmp_path / "run", "probe", features=name)], "latex")
    assert f" & {written} & " in text


def test_small_numbers_keep_their_digits(tmp_path):
    assert " 0.0012 " in write_table([finished(tmp_path / "run", "tuning")], "markdown")


def test_what_cannot_be_put_into_a_table_is_said(tmp_path):
    with pytest.raises(RunError, match="at least one"):
        write_table([], "csv")
    with pytest.raises(ConfigError, match="did you mean 'latex'"):
        write_table([finished(tmp_path / "run", "probe")], "latx")
    with pytest.raises(RunError, match="holds no run"):
        measured(tmp_path / "nowhere")
    open_run(tmp_path / "begun", kind="probe", settings={}, resume=False)
    with pytest.raises(RunError, match="no result yet"):
        measured(tmp_path / "begun")
    with pytest.raises(RunError, match="is not what a nerf run writes"):
        measured(finished(tmp_path / "damaged", "nerf", test=None))


def test_the_command_takes_its_format_from_the_files_ending(tmp_path):
    run = finished(tmp_path / "run", "probe")
    done = CliRunner().invoke(app, ["table", str(run), "--out", str(tmp_path / "new" / "t.csv")])
    assert done.exit_code == 0
    assert (tmp_path / "new" / "t.csv").read_text() == write_table([run], "csv")
    assert CliRunner().invoke(app, ["table", str(run)]).stdout == write_table([run], "markdown")
    assert CliRunner().invoke(app, ["table", str(run), "--format", "latex"]).stdout == write_table([run], "latex")
    assert json.loads(CliRunner().invoke(app, ["table", str(run), "--json"]).stdout)["rows"]
