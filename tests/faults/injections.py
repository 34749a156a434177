"""What can happen to a command, each followed by the same question: is anything lost?"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import (
    Command,
    Death,
    Forge,
    Victim,
    damaged,
    differing,
    fresh,
    left_over,
    outcome,
    repeated_too_much,
    saved_steps,
)


@dataclass(frozen=True)
class Undisturbed:
    """A run of a command that nothing happened to."""

    command: Command
    seconds: float
    largest_bytes: int
    """Of its files."""
    left: dict[str, Any]


@dataclass
class Verdict:
    """What one injection did."""

    hit: bool
    """Whether it came before the command's end."""
    lost: list[str] = field(default_factory=list)
    """Everything that is not as it must be."""
    equal: bool = True
    seconds: float = 0.0
    """Of the command that went on."""
    said: str = ""


def undisturbed(forge: Forge, command: Command, place: Path) -> Undisturbed:
    done = forge.run(command.words(fresh(place) / "out"), **command.tweaks)
    assert done.code == 0, f"{command.name}: {done.said}"
    sizes = [file.stat().st_size for file in place.rglob("*") if file.is_file()]
    return Undisturbed(command, done.seconds, max(sizes), outcome(place))


class Trial:
    """One command in one new folder, disturbed once, then run again in peace."""

    def __init__(self, forge: Forge, reference: Undisturbed, place: Path) -> None:
        self.forge, self.reference, self.command = forge, reference, reference.command
        self.place = fresh(place)
        self.place.mkdir()

    def start(self, *more: str, **tweaks: Any) -> Victim:
        return self.forge.start([*self.command.words(self.place / "out"), *more], **{**self.command.tweaks, **tweaks})

    def judge(self, end: Death, codes: set[int]) -> Verdict:
        """Look at what the first sitting left, go on, and compare."""
        verdict = Verdict(hit=end.code != 0, said=end.said)
        if end.code not in codes:
            verdict.lost.append(f"ended with {end.code}")
        verdict.lost += [words for words in ("Traceback", "this is a bug") if words in end.said]
        verdict.lost += damaged(self.place)
        before = saved_steps(self.place)
        again = self.start(*self.command.again).wait()
        verdict.seconds = again.seconds
        if again.code != 0:
            verdict.lost.append(f"went on to {again.code}: {again.said[-600:]}")
            verdict.equal = False
            return verdict
        verdict.lost += repeated_too_much(before) + damaged(self.place) + left_over(self.place)
        differs = differing(outcome(self.place), self.reference.left)
        verdict.equal = not differs
        verdict.lost += [f"differs: {name}" for name in differs]
        return verdict


Injection = Callable[[Trial, random.Random], Verdict]


def kill(trial: Trial, rng: random.Random) -> Verdict:
    """SIGKILL at a random moment."""
    victim = trial.start()
    victim.alive(rng.uniform(0, 0.97) * trial.reference.seconds)
    victim.signal(signal.SIGKILL)
    return trial.judge(victim.wait(), {-signal.SIGKILL, 0})


def terminate(trial: Trial, rng: random.Random) -> Verdict:
    """SIGTERM: between steps a run saves and says so; elsewhere the process ends as the system does it."""
    victim = trial.start()
    victim.alive(rng.uniform(0, 0.97) * trial.reference.seconds)
    victim.signal(signal.SIGTERM)
    return trial.judge(victim.wait(), {-signal.SIGTERM, 130, 0})


def interrupt(trial: Trial, rng: random.Random) -> Verdict:
    """Ctrl-C once."""
    victim = trial.start()
    victim.alive(rng.uniform(0.1, 0.97) * trial.reference.seconds)
    victim.signal(signal.SIGINT)
    return trial.judge(victim.wait(), {130, 0})


def interrupt_twice(trial: Trial, rng: random.Random) -> Verdict:
    """Ctrl-C, and again before the first has had its effect, perhaps."""
    victim = trial.start()
    victim.alive(rng.uniform(0.1, 0.97) * trial.reference.seconds)
    victim.signal(signal.SIGINT)
    victim.alive(rng.uniform(0, 0.05))
    victim.signal(signal.SIGINT)
    return trial.judge(victim.wait(), {130, 0, -signal.SIGINT})


def file_limit(trial: Trial, rng: random.Random) -> Verdict:
    """No file may grow beyond a random size: as where a quota ends, at any of the writes."""
    largest = trial.reference.largest_bytes
    size = max(4096, int(largest ** rng.uniform(0.2, 0.98)))  # room for what is said, which goes into a file too
    return trial.judge(trial.start(file_bytes=size).wait(), {1, 0})


def full_disk(trial: Trial, rng: random.Random) -> Verdict:
    """A disk that fills up, and is given more room before the command goes on."""
    largest = trial.reference.largest_bytes
    with small_disk(trial.place, max(8192, int(largest * rng.uniform(0.05, 2.5)))):
        end = trial.start().wait()
        mount("remount,size=256m", trial.place)
        return trial.judge(end, {1, 0})


def read_only(trial: Trial, rng: random.Random) -> Verdict:
    """A disk that becomes read-only between two sittings."""
    with small_disk(trial.place, 2**28):
        victim = trial.start()
        victim.alive(rng.uniform(0, 0.97) * trial.reference.seconds)
        victim.signal(signal.SIGKILL)
        first = victim.wait()
        time.sleep(0.3)  # a child of it may still have a file open
        nothing_to_do = (trial.place / "out" / "result.json").exists()
        mount("remount,ro", trial.place)
        end = trial.start(*trial.command.again).wait()
        mount("remount,rw", trial.place)
        if first.code != 0 and end.code == 0 and not nothing_to_do:
            end = Death(99, end.seconds, "a read-only disk was no hindrance")
        return trial.judge(end, {1, 0})


def clock(trial: Trial, rng: random.Random) -> Verdict:
    """A wall clock that jumps to and fro by up to a day."""
    jumps = [rng.uniform(-86400, 86400) for _ in range(5)]
    verdict = trial.judge(trial.start(clock=jumps).wait(), {0})
    verdict.hit = True
    return verdict


def little_memory(trial: Trial, rng: random.Random) -> Verdict:
    """Not enough address space from some moment on."""
    end = trial.start(memory_bytes=int(2 ** rng.uniform(18, 27))).wait()
    return trial.judge(end, {1, 0, -signal.SIGABRT, -signal.SIGSEGV})


def child_dies(number: int) -> Injection:
    """A child process of the command (COLMAP, a DataLoader's worker) is ended by a signal."""

    def inject(trial: Trial, rng: random.Random) -> Verdict:
        victim = trial.start()
        victim.alive(rng.uniform(0.1, 0.9) * trial.reference.seconds)
        while not (found := children(victim.pid)) and victim.alive(0.01):
            pass
        for child in found:
            os.kill(child, number)
        return trial.judge(victim.wait(), {1, 0})

    return inject


def network(trial: Trial, rng: random.Random) -> Verdict:
    """Answers break off in their middle from some request on, until somebody mends the line."""
    server = trial.command.server
    most = len(server.asked) + rng.randint(1, 8)
    server.trouble = lambda _path, _start, count: "drop" if count >= most else None
    end = trial.start().wait()
    server.trouble = lambda *_: None
    verdict = trial.judge(end, {1, 0})
    if verdict.hit and "what has come is kept" not in end.said:
        verdict.lost.append(f"no word of the network: {end.said[-300:]}")
    return verdict


def two_at_once(trial: Trial, rng: random.Random) -> Verdict:
    """A second command on the folder of one that runs: refused with the holder's name, and the first is unharmed."""
    victim = trial.start()
    holders = ()
    while not holders and victim.alive(0.005):
        holders = tuple(trial.place.glob("out/.holder.json"))
    victim.alive(rng.uniform(0, 0.3) * trial.reference.seconds)
    second = trial.start(*trial.command.again).wait()
    end = victim.wait()
    verdict = trial.judge(end, {0})
    verdict.hit = second.code == 1
    if verdict.hit and f"process {victim.pid} on" not in second.said:
        verdict.lost.append(f"the holder is not named: {second.said}")
    return verdict


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def small_disk(place: Path, size: int) -> Generator[None, None, None]:
    """A disk of its own in a folder; needs the rights to mount one."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def mount(options: str, place: Path) -> None:
    subprocess.run(["mount", "-o", options, place], check=True, capture_output=True)


def can_mount(place: Path) -> bool:
    place.mkdir(parents=True, exist_ok=True)
    try:
        with small_disk(place, 2**16):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
