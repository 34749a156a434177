"""Starting the other processes of a machine, and seeing to it that none outlives another."""

import atexit
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from socket import socket

import __main__
from nndl_suite.errors import ConfigError
from nndl_suite.training.environment import PARENT, Spread
from nndl_suite.training.processes import lost

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 10.0
"""For a process to end by itself, with its own words, after another one has died."""


def start_others(spread: Spread) -> None:
    """Start this machine's other processes: each runs the same command from its beginning, and joins where we stand.

    In a process that was so started this only watches the one that started it.

    Raises:
        ConfigError: there is no command that could be run again, or several machines do not know of one another.
    """
    if PARENT in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[PARENT]),), daemon=True).start()
        return
    if "LOCAL_RANK" in os.environ:  # somebody starts them one by one, or we have already
        return
    command = _own_command() if spread.devices > 1 else []
    if spread.nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= set(os.environ):
        raise ConfigError(
            f"{spread.nodes} machines must know of one another: set MASTER_ADDR, MASTER_PORT and NODE_RANK on each, "
            "or start the command on all of them by torchrun or srun"
        )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(_free_port()))
    os.environ |= {"LOCAL_RANK": "0", "WORLD_SIZE": str(spread.processes)}
    os.environ.setdefault("NODE_RANK", "0")
    ours = {**os.environ, PARENT: str(os.getpid())}
    others = [
        subprocess.Popen(command, env={**ours, "LOCAL_RANK": str(local)}, stdin=subprocess.DEVNULL)
        for local in range(1, spread.devices)
    ]
    atexit.register(_end, others)
    threading.Thread(target=_watch, args=(others, spread.processes), daemon=True).start()


def _own_command() -> list[str]:
    """The command line that this process came from."""
    file = getattr(__main__, "__file__", "<stdin>")
    if file == "<stdin>" or "PYTEST_CURRENT_TEST" in os.environ:
        raise ConfigError(
            "more than one process wants a command that can be run again, which a notebook, a prompt or a test has "
            "not; use the command line, a script, or torchrun"
        )
    return [sys.executable, *sys.orig_argv[1:]]


def _free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _watch(others: Sequence[subprocess.Popen[bytes]], world: int) -> None:
    """End this process when another has died and we notice nothing, as in a collective of NCCL."""
    while not any(other.poll() for other in others):
        if all(other.poll() == 0 for other in others):
            return
        time.sleep(_LOOK_SECONDS)
    time.sleep(_GRACE_SECONDS)
    sys.stderr.write(f"error: {lost(world)}\n")
    for other in others:
        other.kill()
    os._exit(1)


def _end(others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Leave no process behind: those that are not at their end by themselves are ended."""
    until = time.monotonic() + _GRACE_SECONDS
    for other in others:
        with suppress(subprocess.TimeoutExpired):
            other.wait(max(0.0, until - time.monotonic()))
        if other.returncode is None:
            other.kill()
            other.wait()


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, and say so, for it cannot."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    if os.environ["LOCAL_RANK"] == "1":
        sys.stderr.write(f"error: {lost(int(os.environ['WORLD_SIZE']))}\n")
    os._exit(1)
