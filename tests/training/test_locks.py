"""Two commands never write one folder at once, and a dead one is in nobody's way."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nndl_suite.errors import RunError
from nndl_suite.training.locks import held, only_writer
from nndl_suite.training.parts import new_part
from nndl_suite.training.runs import open_run

HOLDER = """
import os, sys, time
from pathlib import Path
from nndl_suite.training.locks import held
sys.argv = ["/usr/bin/nndl-suite", "ssl", "pretrain", "--data-root", "/secret"]
with held(Path({folder!r})):
    if {child}:
        if os.fork() == 0:
            time.sleep({child})
            os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder():
    """Starts a process that holds a folder; ended with the test."""
    started = []

    def start(folder: Path, child: float = 0.0) -> subprocess.Popen:
        code = HOLDER.format(folder=str(folder), child=child)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_whoever_comes_second_hears_who_is_first(tmp_path, holder):
    process = holder(tmp_path / "run")
    told = rf"run is being written by `nndl-suite ssl pretrain` \(process {process.pid} on .*, since 20.*\); wait"
    with pytest.raises(RunError, match=told) as refusal, held(tmp_path / "run"):
        pass
    assert "secret" not in str(refusal.value)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_the_lock_of_a_dead_command_is_free_at_once(tmp_path, holder):
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".holder.json").exists()
    started = time.monotonic()
    with held(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".holder.json").read_text()
    assert time.monotonic() - started < 1
    assert not (tmp_path / ".holder.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_a_child_that_outlives_a_dead_command_is_waited_for(tmp_path, holder):
    process = holder(tmp_path, child=1.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with held(tmp_path):  # at once where filelock closes its handles in children, else when the child ends
        pass


def test_one_thread_holds_it_several_times_over_and_another_is_refused(tmp_path):
    refused = []

    def other():
        try:
            with held(tmp_path):
                pass
        except RunError as error:
            refused.append(str(error))

    with only_writer(tmp_path):
        with held(tmp_path):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert (tmp_path / ".holder.json").exists()
    assert len(refused) == 1
    other()
    assert len(refused) == 1


def test_an_error_inside_lets_it_go(tmp_path, holder):
    with pytest.raises(ValueError, match="mine"), held(tmp_path):
        raise ValueError("mine")
    holder(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot write in .*run: Permission denied"), held(tmp_path / "run"):
        pass
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="nothing tells on Windows who is dead")
def test_what_the_dead_left_is_cleared_away_and_what_the_living_write_stays(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    dead = tmp_path / "checkpoints" / ".step-1.safetensors.x1y2.part.safetensors"
    dead.write_bytes(b"half")
    handle, living = new_part(tmp_path / "result.json")
    with held(tmp_path):
        assert not dead.exists()
        assert living.exists()
    os.close(handle)
    with held(tmp_path):
        assert not living.exists()


def test_a_kill_between_the_first_two_writes_leaves_a_folder_that_can_be_begun(tmp_path, monkeypatch):
    """The checkpoints' folder was made before config.json once: what a kill between them left was refused for ever."""
    monkeypatch.setattr(Path, "mkdir", _dies_at("checkpoints", Path.mkdir))
    with pytest.raises(KeyboardInterrupt):
        open_run(tmp_path / "run", kind="walk", settings={}, resume=True)
    monkeypatch.undo()
    assert open_run(tmp_path / "run", kind="walk", settings={}, resume=True).config()["kind"] == "walk"


def _dies_at(name, mkdir):
    def made(self, *words, **more):
        mkdir(self, *words, **more)
        if self.name == name:
            raise KeyboardInterrupt

    return made
