"""What the machine lacks is no bug: one sentence says what, and that nothing is lost."""

import errno
import sys
from types import SimpleNamespace

import pytest
import torch

from nndl_suite.cli import app
from nndl_suite.cli.screen import say_error
from nndl_suite.errors import Interrupted


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 4. GiB"), "not enough memory"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (RuntimeError("can't start new thread"), "not enough memory"),
        (RuntimeError("could not create a primitive"), "not enough memory"),
        (RuntimeError("std::bad_alloc"), "not enough memory"),
        (ImportError("workqueue.so: failed to map segment from shared object"), "not enough memory"),
        (SystemError("error return without exception set"), "as happens when memory runs out"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "not enough memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "reads images was killed"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "cannot write /tmp/x: No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot write: Read-only file system"),
    ],
)
def test_a_sentence_says_what_is_lacking(error, said, monkeypatch, capsys):
    def fails(_words):
        raise error

    monkeypatch.setattr(app, "app", fails)
    monkeypatch.setattr("sys.argv", ["nndl-suite", "report"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 1
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "goes on with --resume" in told
    assert "bug" not in told


def test_it_is_said_even_without_memory_for_colours(monkeypatch, capsys):
    def fails(*_words, **_options):
        raise MemoryError

    monkeypatch.setattr("nndl_suite.cli.screen.Console.print", fails)
    say_error("not enough memory")
    assert capsys.readouterr().err == "error: not enough memory\n"


def test_a_ctrl_c_that_is_lost_in_a_callback_prints_no_traceback(monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda lost: told.append(lost.exc_value))
    app._say_no_lost_interrupt()
    for error in (KeyboardInterrupt(), ValueError("a bug")):
        sys.unraisablehook(SimpleNamespace(exc_value=error))
    assert [str(error) for error in told] == ["a bug"]


def test_a_second_ctrl_c_while_the_first_is_said(monkeypatch, capsys):
    def fails(_words):
        raise Interrupted("stopped")

    def interrupted(_text):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "app", fails)
    monkeypatch.setattr(app, "say_error", interrupted)
    monkeypatch.setattr("sys.argv", ["nndl-suite", "report"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


def test_anything_else_is_a_bug(monkeypatch, capsys):
    def fails(_words):
        raise OSError(errno.ENOENT, "No such file", "/tmp/x")

    monkeypatch.setattr(app, "app", fails)
    monkeypatch.setattr("sys.argv", ["nndl-suite", "report"])
    with pytest.raises(SystemExit):
        app.main()
    assert "this is a bug" in " ".join(capsys.readouterr().err.split())
