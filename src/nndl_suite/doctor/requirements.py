"""Is everything installed that the package asks for, and what optional things are?"""

import platform
import struct
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from packaging.requirements import Requirement

from nndl_suite import __version__
from nndl_suite.doctor.finding import Finding

_OLDEST = (3, 11)
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "viewer": (("viser",), "nerf view"),
    "tensorboard": (("tensorboard",), "--tensorboard"),
    "wandb": (("wandb",), "--log-to wandb"),
    "trackio": (("trackio",), "--log-to trackio"),
    "onnx": (("onnx", "onnxscript"), "ssl export to .onnx"),
    "remote": (("s3fs", "gcsfs"), "shards at s3:// and gs://"),
}
"""By extra: the modules that it brings, and what they are for."""


def check_python(found: tuple[int, int] = sys.version_info[:2], bits: int = 8 * struct.calcsize("P")) -> Finding:
    """A Python that torch has wheels for."""
    system = f"{platform.system()} {platform.machine()}"
    told = f"{platform.python_version()}, {bits} bits, {system}; nndl-suite {__version__}"
    if found < _OLDEST or bits < 64:
        return Finding(
            name="Python", found=told, state="fail", cure="install a 64-bit Python of version 3.11 or newer, then again"
        )
    return Finding(name="Python", found=told)


def stated_requirements() -> Sequence[str] | None:
    """What the installed package asks for; None where it runs from a checkout that was never installed."""
    try:
        return requires("nndl-suite") or ()
    except PackageNotFoundError:
        return None


def check_requirements(stated: Sequence[str] | None, installed: Callable[[str], str] = version) -> Finding:
    """Every required package is there, in a version that will do.

    Args:
        stated: Lines as `torch>=2.11`; those of extras are passed over.
        installed: A package's version; raises `PackageNotFoundError` where it is missing.
    """
    if stated is None:
        return Finding(
            name="packages", found="not installed, run from its folder", state="warn", cure="pip install -e ."
        )
    wanted = [Requirement(line) for line in stated]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong: dict[str, str] = {}
    for one in wanted:
        try:
            found = installed(one.name)
        except PackageNotFoundError:
            wrong[f"{one.name}{one.specifier}"] = f"{one.name} is missing"
            continue
        if not one.specifier.contains(found, prereleases=True):
            wrong[f"{one.name}{one.specifier}"] = f"{one.name} {found} is not {one.specifier}"
    if wrong:
        cure = "pip install " + " ".join(f'"{line}"' for line in wrong)
        return Finding(name="packages", found="; ".join(wrong.values()), state="fail", cure=cure)
    return Finding(name="packages", found=f"all {len(wanted)} that are required")


def check_extras(is_there: Callable[[str], bool] = lambda module: find_spec(module) is not None) -> tuple[Finding, ...]:
    """One row for each extra; nobody needs them all, so none of them is a warning."""
    rows: list[Finding] = []
    for extra, (modules, use) in EXTRAS.items():
        missing = [module for module in modules if not is_there(module)]
        told = f"there, for {use}" if not missing else f"not installed; only for {use}"
        cure = f'pip install "nndl-suite[{extra}]"' if missing else None
        rows.append(Finding(name=f"extra {extra}", found=told, cure=cure))
    return tuple(rows)
