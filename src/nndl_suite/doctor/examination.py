"""All checks of a machine, in the order of the table."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nndl_suite.doctor import computing, places, programs, requirements
from nndl_suite.doctor.finding import Finding

_REINSTALL = {
    "COLMAP": 'pip install --force-reinstall "pycolmap>=4.2,<5"',
    "video": "pip install --force-reinstall av",
    "HEIC photos": "pip install --force-reinstall pillow-heif",
}


def examine(data_root: Path | str | None = None) -> tuple[Finding, ...]:
    """Check this machine; nothing is downloaded, installed or left behind, and no check can end the others.

    Args:
        data_root: Where named sets lie; None: as everywhere, `NNDL_SUITE_DATA`, else the user's cache.
    """
    with ThreadPoolExecutor(max_workers=1) as beside:  # COLMAP's process starts while torch loads
        colmap = beside.submit(_attempt, "COLMAP", programs.check_colmap)
        first = (
            requirements.check_python(),
            requirements.check_requirements(requirements.stated_requirements()),
            computing.check_torch(),
        )
        if first[-1].state == "fail":  # whose error every further check would repeat
            return (*first, colmap.result(), *requirements.check_extras())
        computes = [
            _attempt("device", computing.check_device),
            _attempt("bf16", computing.check_bf16),
            _attempt("threads", computing.check_threads),
            _attempt("memory", computing.check_memory),
            _attempt("Triton", computing.check_triton),
            _attempt("CPU kernels", programs.check_kernels),
        ]
        reads = [_attempt("video", programs.check_video), _attempt("HEIC photos", programs.check_heic)]
        return (*first, *computes, colmap.result(), *reads, *_places(data_root), *requirements.check_extras())


def is_healthy(findings: tuple[Finding, ...]) -> bool:
    """Whether nothing is broken; warnings are no breakage."""
    return all(finding.state != "fail" for finding in findings)


def _places(data_root: Path | str | None) -> tuple[Finding, ...]:
    import torch  # noqa: PLC0415

    from nndl_suite.data.catalog import default_data_root, user_cache  # noqa: PLC0415

    root, here = default_data_root(data_root), Path.cwd()
    asked = "NNDL_SUITE_DATA" if os.environ.get("NNDL_SUITE_DATA") else "the user's cache"
    named_by = asked if data_root is None else "--data-root"
    weights = Path(torch.hub.get_dir()) / "checkpoints"
    return (
        _attempt("data sets", lambda: places.check_data(root, named_by=named_by)),
        _attempt("ImageNet weights", lambda: places.check_imagenet_weights(weights)),
        _attempt("LPIPS weights", lambda: places.check_lpips_weights(root)),
        _attempt("writing", lambda: places.check_writing(here, user_cache())),
        _attempt("disk", lambda: places.check_disk((here, root))),
    )


def _attempt(name: str, check: Callable[[], Finding]) -> Finding:
    """A check that itself goes wrong has found something."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - broken libraries fail in every way there is, and a doctor goes on
        reason = str(error).splitlines()[0] if str(error) else ""
        told = f"{type(error).__name__}: {reason}".rstrip(": ")
        cure = _REINSTALL.get(name, "nndl-suite doctor --debug shows where; pip install --force-reinstall nndl-suite")
        return Finding(name=name, found=told, state="fail", cure=cure)
