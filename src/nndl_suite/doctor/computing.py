"""What computes here: torch, its device, threads, memory."""

import math
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from nndl_suite.doctor.finding import Finding, set_line, unset_line

_GIB = 2**30
_LITTLE_MEMORY_GIB = 3.0
"""The largest process of the demo held 1.7 GiB at its peak, on two cores."""
_LITTLE_SHARED_GIB = 0.25
_REINSTALL = "pip install --force-reinstall torch torchvision"


def check_torch() -> Finding:
    """Torch and torchvision load, compute, and fit each other."""
    try:
        import torch  # noqa: PLC0415 - a torch that does not load is what is looked for
        import torchvision  # noqa: PLC0415

        boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1)
        assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [0]  # their compiled parts meet here
    except Exception as error:  # noqa: BLE001 - broken libraries fail in every way there is
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding(name="torch", found=f"does not load: {reason}", state="fail", cure=_REINSTALL)
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    return Finding(name="torch", found=f"{torch.__version__} ({build}), torchvision {torchvision.__version__}")


def check_device() -> Finding:
    """A GPU that torch can use, where the machine has one."""
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        names = [
            f"{torch.cuda.get_device_name(i)} ({torch.cuda.get_device_properties(i).total_memory / _GIB:.0f} GiB)"
            for i in range(torch.cuda.device_count())
        ]
        return Finding(name="device", found="CUDA: " + ", ".join(names))
    return judge_no_cuda(torch.version.cuda, has_driver=has_nvidia_driver())


def has_nvidia_driver() -> bool:
    """Whether NVIDIA's driver runs here, whatever torch thinks of it."""
    return Path("/proc/driver/nvidia/version").exists() or bool(
        os.name == "nt" and Path(os.environ.get("SYSTEMROOT", "C:/Windows"), "System32", "nvcuda.dll").exists()
    )


def judge_no_cuda(torch_cuda: str | None, *, has_driver: bool) -> Finding:
    """Why torch sees no GPU, given the CUDA version that it was built for."""
    if not has_driver:
        return Finding(name="device", found="CPU; no NVIDIA driver here, and none is needed")
    if torch_cuda is None:
        return Finding(
            name="device",
            found="CPU, though there is an NVIDIA GPU: this torch is built for CPUs only",
            state="warn",
            cure=f"{_REINSTALL} --index-url https://download.pytorch.org/whl/cu128",
        )
    return Finding(
        name="device",
        found=f"CPU, though there is an NVIDIA driver: torch, built for CUDA {torch_cuda}, finds no GPU with it",
        state="warn",
        cure="update the driver (nvidia-smi shows the CUDA it can do), or start the container with --gpus all",
    )


def check_bf16() -> Finding:
    """What `--precision auto` takes."""
    from nndl_suite.training.fabric import resolve_precision  # noqa: PLC0415

    if resolve_precision() == "bf16-mixed":
        return Finding(name="bf16", found="computed natively; --precision auto takes it")
    return Finding(name="bf16", found="not native here; --precision auto takes float32")


def check_triton() -> Finding:
    """The compiler of the radiance field's kernels on a GPU."""
    import torch  # noqa: PLC0415

    return judge_triton(is_there=find_spec("triton") is not None, has_cuda=torch.cuda.is_available())


def judge_triton(*, is_there: bool, has_cuda: bool) -> Finding:
    """Needed on CUDA alone, and not to be had everywhere."""
    if is_there:
        return Finding(name="Triton", found="there" if has_cuda else "there; not needed without a GPU")
    if not has_cuda:
        return Finding(name="Triton", found="none; not needed without a GPU")
    return Finding(
        name="Triton",
        found="none: nerf train --device cuda will compute by plain torch, slower",
        state="warn",
        cure="pip install triton  # Linux; on Windows and macOS there is none",
    )


def check_threads() -> Finding:
    """Torch uses the cores that this process may have."""
    import torch  # noqa: PLC0415

    from nndl_suite.nerf.colmap_request import usable_cores  # noqa: PLC0415

    return judge_threads(torch.get_num_threads(), usable_cores(), cpu_quota(), os.environ)


def cpu_quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """The cores' worth of time that a container may use; None without a limit."""
    try:
        quota, period = file.read_text(encoding="ascii").split()[:2]
        return float(quota) / float(period)
    except (OSError, ValueError):  # the word "max" is no number either
        return None


def judge_threads(threads: int, cores: int, quota: float | None, environment: Mapping[str, str]) -> Finding:
    """As many threads as there are cores, neither held down by a variable nor beyond a container's limit."""
    usable = cores if quota is None else min(cores, max(1, math.ceil(quota)))
    told = f"{threads} for {usable} usable core{'' if usable == 1 else 's'}"
    asked = environment.get("OMP_NUM_THREADS")
    if threads > usable:
        cure = f"{set_line('OMP_NUM_THREADS', str(usable))}; {set_line('NUMBA_NUM_THREADS', str(usable))}"
        return Finding(name="threads", found=f"{told}: they will be in each other's way", state="warn", cure=cure)
    if asked is not None and threads < usable:
        return Finding(
            name="threads",
            found=f"{told}, because OMP_NUM_THREADS is {asked}",
            state="warn",
            cure=unset_line("OMP_NUM_THREADS"),
        )
    return Finding(name="threads", found=told)


def check_memory() -> Finding:
    """Enough for images, a network and its gradients."""
    from nndl_suite.nerf.colmap_request import free_memory_bytes  # noqa: PLC0415

    return judge_memory(free_memory_bytes(), shared=_shared_memory())


def judge_memory(free: int | None, *, shared: int | None) -> Finding:
    """Free memory, and the part of it through which a DataLoader's processes hand over their batches."""
    if free is None:
        return Finding(name="memory", found="unknown on this system")
    told = f"{free / _GIB:.1f} GiB free"
    if free < _LITTLE_MEMORY_GIB * _GIB:
        return Finding(
            name="memory",
            found=f"{told}: little",
            state="warn",
            cure="close other programs, or ask for less: --batch-size 64, --max-side 320",
        )
    if shared is not None and shared < _LITTLE_SHARED_GIB * _GIB:
        return Finding(
            name="memory",
            found=f"{told}, but only {shared / 2**20:.0f} MiB are shared: image sets larger than memory cannot stream",
            state="warn",
            cure="start the container with --shm-size=2g",
        )
    return Finding(name="memory", found=told)


def _shared_memory(folder: Path = Path("/dev/shm")) -> int | None:  # noqa: S108 - where Linux has it
    if not hasattr(os, "statvfs") or not folder.is_dir():
        return None
    told = os.statvfs(folder)
    return told.f_blocks * told.f_frsize
