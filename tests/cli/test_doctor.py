import json
import sys

import pytest
from typer.testing import CliRunner

from nndl_suite import doctor
from nndl_suite.cli.app import app
from nndl_suite.doctor import Finding, examination
from nndl_suite.errors import CaptureError

ROWS = (
    Finding(name="torch", found="2.11 [cpu]"),
    Finding(name="threads", found="1 of 8", state="warn", cure="unset OMP_NUM_THREADS"),
    Finding(name="extra viewer", found="not installed", cure='pip install "nndl-suite[viewer]"'),
)
BROKEN = Finding(name="video", found="no encoder", state="fail", cure="pip install --force-reinstall av")


@pytest.fixture
def found(monkeypatch):
    def say(*findings):
        monkeypatch.setattr(doctor, "examine", lambda data_root: findings)

    return say


def test_warnings_are_no_failure_and_each_problem_has_its_line(found):
    found(*ROWS)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0
    assert "2.11 [cpu]" in done.stdout
    assert "  unset OMP_NUM_THREADS  # threads" in done.stdout.splitlines()
    assert '  pip install "nndl-suite[viewer]"  # extra viewer' in done.stdout.splitlines()
    assert "broken" not in done.stdout


def test_something_essential_that_is_broken_exits_with_1(found):
    found(*ROWS, BROKEN)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "broken; to mend it:" in done.stdout
    as_json = CliRunner().invoke(app, ["doctor", "--json"])
    assert as_json.exit_code == 1
    told = json.loads(as_json.stdout)
    assert told["healthy"] is False
    assert told["findings"][-1] == {
        "name": "video",
        "found": "no encoder",
        "state": "fail",
        "cure": "pip install --force-reinstall av",
    }


@pytest.mark.colmap
def test_this_machine_is_examined_whole(tmp_path):
    done = CliRunner().invoke(app, ["doctor", "--json", "--data-root", str(tmp_path)])
    told = json.loads(done.stdout)
    states = {row["name"]: row["state"] for row in told["findings"]}
    for name in ("Python", "torch", "COLMAP", "video", "HEIC photos", "CPU kernels"):
        assert states[name] == "ok", told
    assert {"packages", "device", "bf16", "threads", "memory", "data sets", "writing", "disk"} < set(states)
    assert all(row["cure"] for row in told["findings"] if row["state"] != "ok")
    assert done.exit_code == (0 if told["healthy"] else 1)
    assert not list(tmp_path.iterdir())


def test_one_check_that_goes_wrong_leaves_the_others(monkeypatch, tmp_path):
    def dies():
        raise CaptureError("COLMAP aborted")

    def bug():
        raise ZeroDivisionError

    monkeypatch.setattr(examination.programs, "check_colmap", dies)
    monkeypatch.setattr(examination.computing, "check_device", bug)
    rows = {row.name: row for row in doctor.examine(tmp_path)}
    assert rows["COLMAP"].state == "fail"
    assert "COLMAP aborted" in rows["COLMAP"].found
    assert rows["device"].found == "ZeroDivisionError"
    assert rows["video"].state == "ok"


def test_without_torch_the_rest_is_not_guessed_at(monkeypatch, tmp_path):
    monkeypatch.setattr(examination.programs, "check_colmap", lambda: Finding(name="COLMAP", found=""))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    rows = doctor.examine(tmp_path)
    assert not doctor.is_healthy(rows)
    assert [row.name for row in rows if row.state == "fail"] == ["torch"]
