import json
import threading
import time

import pytest
from filelock import FileLock

from nndl_suite.errors import RunError
from nndl_suite.logs import Row, follow, following, pass_on
from nndl_suite.logs.rows import Rows
from nndl_suite.training.runs import open_run


class Kept:
    """A sink that keeps what it gets."""

    made: "list[Kept]"

    def __init__(self, folder):
        self.rows, self.closed = [], False
        type(self).made.append(self)

    def __call__(self, row):
        assert not self.closed
        self.rows.append((row.run, row.step, dict(row.figures)))

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def made():
    Kept.made = []
    return Kept.made


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(follow, "_EVERY_SECONDS", 0.02)


def write(folder, *records, end="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("\n".join(json.dumps(record) for record in records) + end)


def test_rows_come_once_and_whole(tmp_path):
    rows = Rows(tmp_path)
    assert list(rows.new()) == []
    write(tmp_path, {"step": 1, "loss": 2.0})
    assert list(rows.new()) == [Row(run="", step=1, figures={"loss": 2.0})]
    write(tmp_path, {"step": 2, "loss": 1.5, "arm": "cnn"})
    write(tmp_path / "arms" / "vit", {"step": 1, "loss": 3.0}, end="")  # a line that is being written
    assert list(rows.new()) == [Row(run="", step=2, figures={"loss": 1.5})]
    write(tmp_path / "arms" / "vit", end="\n")
    assert list(rows.new()) == [Row(run="arms/vit", step=1, figures={"loss": 3.0})]
    assert list(rows.new()) == []


def test_what_a_kill_left_is_read_as_the_run_itself_reads_it(tmp_path):
    run = open_run(tmp_path / "run", kind="probe", settings={}, resume=False)
    for step, loss in ((20, 3.0), (40, 2.0)):
        run.log({"step": step, "loss": loss})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "lo\n')
    for step, loss in ((40, 2.5), (60, 1.0)):
        run.log({"step": step, "loss": loss})
    assert [{"step": row.step, **row.figures} for row in Rows(run.path).new()] == run.metrics()


def test_another_run_in_its_place_is_read_from_its_beginning(tmp_path):
    rows = Rows(tmp_path)
    write(tmp_path, {"step": 1, "loss": 2.0}, {"step": 2, "loss": 2.0})
    list(rows.new())
    (tmp_path / "metrics.jsonl").unlink()
    write(tmp_path, {"step": 1, "loss": 5.0})
    assert [row.figures["loss"] for row in rows.new()] == [5.0]


def test_a_finished_run_is_passed_on_in_one_go(tmp_path, made):
    write(tmp_path / "a", {"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0})
    assert pass_on(tmp_path, Kept) == 2
    assert made[0].rows == [("a", 1, {"loss": 2.0}), ("a", 2, {"loss": 1.0})]
    assert made[0].closed
    with pytest.raises(RunError, match=r"holds no metrics\.jsonl"):
        pass_on(tmp_path / "b", Kept)


def test_a_run_is_followed_while_it_trains_and_to_its_end(tmp_path, made, quick):
    out = tmp_path / "run"
    with following(out, Kept):
        run = open_run(out, kind="probe", settings={}, resume=False)  # the folder must still be free for it
        run.log({"step": 1, "loss": 2.0})
        deadline = time.monotonic() + 10
        while not made[0].rows and time.monotonic() < deadline:
            time.sleep(0.01)
        assert made[0].rows == [("", 1, {"loss": 2.0})]
        run.log({"step": 2, "loss": 1.0})
    assert [step for _, step, _ in made[0].rows] == [1, 2]
    assert made[0].closed


def test_the_rest_is_passed_on_when_a_training_is_interrupted(tmp_path, made):
    def train():
        with following(tmp_path, Kept):
            write(tmp_path, {"step": 1, "loss": 2.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert made[0].rows == [("", 1, {"loss": 2.0})]
    assert made[0].closed


def test_a_sink_that_fails_never_ends_a_training(tmp_path):
    class Broken(Kept):
        def __call__(self, row):
            raise OSError("no space left")

    notes = []
    with following(tmp_path, Broken, note=notes.append):
        write(tmp_path, {"step": 1, "loss": 2.0})
    assert len(notes) == 1
    assert "no space left" in notes[0]
    assert "the training goes on" in notes[0]


def test_of_several_processes_one_follows(tmp_path, made):
    write(tmp_path, {"step": 1, "loss": 2.0})
    other = FileLock(tmp_path / ".kept.lock", thread_local=False)
    with other, following(tmp_path, Kept):
        pass
    assert made[0].rows == []
    with following(tmp_path, Kept):
        pass
    assert [step for _, step, _ in made[1].rows] == [1]


def test_nothing_is_left_running(tmp_path):
    before = threading.active_count()
    with following(tmp_path, Kept):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
