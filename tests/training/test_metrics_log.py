"""A log of any length gives its curves, its epochs and its newest figure, for few bytes read and little memory."""

import json
import tracemalloc
from statistics import fmean

import numpy as np
import pytest

from nndl_suite.report.pictures import thinned
from nndl_suite.training import metrics_log
from nndl_suite.training.metrics_log import newest, overview, read_whole
from nndl_suite.training.runs import RunFolder

LINES, EPOCH = 60_000, 500


def loss_at(step):
    return 4.0 / (1 + step / 5000) + 0.01 * (step % 7)


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    """A log that counts as long; its last line is torn."""
    file = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    with file.open("w") as log:
        for step in range(1, LINES + 1):
            record = {"step": step, "seconds": step / 8, "loss": loss_at(step), "learning_rate": 0.1}
            if step % EPOCH == 0:
                record |= {"epoch": step // EPOCH, "val_accuracy": step / LINES}
            log.write(json.dumps(record) + "\n")
        log.write('{"step": 1, "loss": 9')
    return file


@pytest.fixture
def counted(monkeypatch):
    """Logs of over a megabyte are long, and the bytes that are read of them are counted."""
    monkeypatch.setattr(metrics_log, "WHOLE_BYTES", 2**20)
    monkeypatch.setattr(metrics_log, "_WINDOWS", 50)
    monkeypatch.setattr(metrics_log, "_BLOCK_BYTES", 2**18)
    parsed = []
    record = metrics_log._record
    monkeypatch.setattr(metrics_log, "_record", lambda line: parsed.append(len(line)) or record(line))
    return parsed


def test_a_long_log_is_sampled_evenly_and_has_every_epoch(long_log, counted):
    records = overview(long_log, ["val_accuracy", "nobody_logs_this"])
    steps = [record["step"] for record in records]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, LINES)
    assert sum(counted) < 0.15 * long_log.stat().st_size
    assert max(np.diff(steps)) < LINES / 50
    assert all(record["loss"] == loss_at(record["step"]) for record in records)
    accuracies = [record["val_accuracy"] for record in records if "val_accuracy" in record]
    assert accuracies == [step / LINES for step in range(EPOCH, LINES + 1, EPOCH)]


def test_a_curve_of_the_sample_is_the_curve_of_the_log(long_log, counted):
    steps, values = thinned(overview(long_log, []), "loss")
    whole_steps, whole = thinned(read_whole(long_log), "loss")
    shown = np.interp(whole_steps, steps, values)
    assert shown == pytest.approx(whole, abs=0.05)
    assert fmean(shown) == pytest.approx(fmean(whole), abs=0.002)


def test_a_short_log_is_read_whole(long_log):
    assert overview(long_log, ["val_accuracy"]) == read_whole(long_log)
    assert len(read_whole(long_log)) == LINES


@pytest.mark.parametrize("name", ["loss", "val_accuracy", "nothing"])
def test_the_newest_figure_is_found_from_the_end(long_log, counted, name):
    found = [record[name] for record in read_whole(long_log) if name in record]
    counted.clear()
    assert newest(long_log, name) == (found[-1] if found else None)
    assert len(counted) <= 2


def test_memory_does_not_grow_with_the_log(long_log, counted, tmp_path):
    longer = tmp_path / "metrics.jsonl"
    longer.write_bytes(long_log.read_bytes() * 4)
    peaks = []
    for file in (long_log, longer):
        tracemalloc.start()
        overview(file, ["epoch"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 16 * 2**20


def test_too_many_rare_lines_are_thinned_evenly(long_log, counted, monkeypatch):
    monkeypatch.setattr(metrics_log, "_MOST_FOUND", 30)
    monkeypatch.setattr(metrics_log, "_WINDOW_BYTES", 100)
    epochs = [record["epoch"] for record in overview(long_log, ["val_accuracy"]) if "epoch" in record]
    assert 15 <= len(epochs) <= 32
    assert set(range(1, LINES // EPOCH, 8)) <= set(epochs)


def test_what_every_line_says_is_not_searched_for(long_log, counted, monkeypatch):
    monkeypatch.setattr(metrics_log, "_found", lambda log, key: pytest.fail(f"searched for {key}"))
    overview(long_log, ["loss"])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"x" * 3_000_000, b"[" * 200_000 + b"\n" + b"\xff\x00" * 900_000])
def test_what_is_no_log_has_no_records(tmp_path, counted, content):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(content)
    assert overview(file, ["loss"]) == read_whole(file) == []
    assert newest(file, "loss") is None


def test_a_log_that_is_not_there_has_no_records(tmp_path):
    assert overview(tmp_path / "none", ["loss"]) == []
    assert newest(tmp_path / "none", "loss") is None


@pytest.mark.parametrize("cut", range(1, 26))
def test_a_line_after_a_torn_one_is_not_lost(tmp_path, cut):
    run = RunFolder(tmp_path)
    run.log({"step": 1, "loss": 2.0})
    run.log({"step": 2, "loss": 1.0})
    run.metrics_file.write_bytes(run.metrics_file.read_bytes()[:-cut])
    run.log({"step": 3, "loss": 0.5})
    assert [record["step"] for record in run.metrics()] == ([1, 2, 3] if cut == 1 else [1, 3])
    assert run.newest("loss") == 0.5
