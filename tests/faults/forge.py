"""A process that has everything imported, and forks a victim for each request: one costs a tenth of a fresh Python.

One JSON object a line on stdin asks for a victim; on stdout come `{"born": pid}` and, in any order with later ones,
`{"dead": pid, "status": …}`. This process computes nothing, so it has no threads that a fork would lose.
"""

import atexit
import faulthandler
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from pathlib import Path

from nndl_suite.cli.app import main as command
from nndl_suite.comparison import tuning_worker
from nndl_suite.data import fetch, folders
from nndl_suite.nerf.field import FieldSettings
from nndl_suite.nerf.trainer import TrainSettings
from nndl_suite.training.loop import LoopSettings

MODULES = (
    "nndl_suite.cli.app",
    "nndl_suite.comparison.comparison",
    "nndl_suite.comparison.train",
    "nndl_suite.comparison.tuning",
    "nndl_suite.nerf.reconstructor",
    "nndl_suite.report.page",
    "nndl_suite.representation.export_backbone",
    "nndl_suite.representation.pretrainer",
    "nndl_suite.representation.probe",
    "torchvision.models",
    "timm",
    "trimesh",
    "skimage.measure",
    "fast_simplification",
    "torch.optim",
)


def main() -> None:
    for module in MODULES:
        importlib.import_module(module)
    sys.stdout.write(json.dumps({"ready": os.getpid()}) + "\n")
    sys.stdout.flush()
    pending, living = b"", set()
    while True:
        if select.select([0], [], [], 0.005 if living else None)[0]:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                victim = fork(json.loads(line))
                living.add(victim)
                tell(born=victim)
        while living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            living.discard(pid)
            tell(dead=pid, status=os.waitstatus_to_exitcode(status))
    for victim in living:
        os.kill(victim, signal.SIGKILL)


def tell(**said: int) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def fork(request: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = live(request)
    except BaseException:  # noqa: BLE001 - it goes into the log, as Python's own end would
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def live(request: dict) -> int:
    """The command, as a fresh process would run it, after the request's tweaks."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        signal.signal(number, handler)
    faulthandler.register(signal.SIGUSR1)  # says where it is, should it hang
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["nndl-suite", *request["words"]]
    tweak(request["tweaks"])
    try:
        command()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    return 0


def tweak(tweaks: dict) -> None:
    """Make small runs save often, and break the world as asked."""
    LoopSettings.__init__.__kwdefaults__.update(checkpoint_seconds=tweaks.get("checkpoint_seconds", 0.05), log_every=1)
    FieldSettings.__init__.__kwdefaults__.update(log2_rows=8, finest=64)
    TrainSettings.__init__.__kwdefaults__.update(samples_per_step=2**12)
    tuning_worker.SILENT_SECONDS, tuning_worker.BEAT_SECONDS, tuning_worker._WAIT_SECONDS = 1.0, 0.2, 0.1
    if "file_bytes" in tweaks:
        resource.setrlimit(resource.RLIMIT_FSIZE, (tweaks["file_bytes"], resource.RLIM_INFINITY))
    if "memory_bytes" in tweaks:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + tweaks["memory_bytes"], resource.RLIM_INFINITY))
    if "clock" in tweaks:
        jump(tweaks["clock"])
    folders.RESIDENT_BYTES = tweaks.get("resident_bytes", folders.RESIDENT_BYTES)
    fetch.CHUNK_BYTES, fetch.PAUSES = 4096, (0.05, 0.05)


def jump(seconds: list[float]) -> None:
    """A wall clock that is off by another of these amounts at each look."""
    real, looks = time.time, [0]

    def off() -> float:
        looks[0] += 1
        return real() + seconds[looks[0] % len(seconds)]

    time.time = off


if __name__ == "__main__":
    main()
