"""The words that began a run stay with it, without what is nobody's business."""

from nndl_suite.training.command import begun_by, command
from nndl_suite.training.runs import open_run


def test_a_run_keeps_the_words_that_began_it(tmp_path):
    with begun_by(["nndl-suite", "tune", "--resume", "--storage", "postgresql://me:secret@host:5432/db"]):
        run = open_run(tmp_path / "run", kind="tuning", settings={}, resume=False)
    assert run.config()["command"] == ["nndl-suite", "tune", "--storage", "postgresql://...@host:5432/db"]
    assert command() == ()


def test_python_code_has_no_words(tmp_path):
    assert open_run(tmp_path / "run", kind="probe", settings={}, resume=False).config()["command"] == []


def test_other_words_do_not_hinder_a_resume(tmp_path):
    with begun_by(["nndl-suite", "demo"]):
        open_run(tmp_path / "run", kind="probe", settings={"seed": 0}, resume=False)
    with begun_by(["nndl-suite", "ssl", "probe", "--resume"]):
        run = open_run(tmp_path / "run", kind="probe", settings={"seed": 0}, resume=True)
    assert run.config()["command"] == ["nndl-suite", "demo"]
