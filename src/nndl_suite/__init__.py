"""Three vision experiments from raw input to an answer people can trust.

The public names load on first use (PEP 562), so that `import nndl_suite` costs no torch import.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from nndl_suite.errors import CaptureError, ConfigError, DataError, NndlError, RunError

if TYPE_CHECKING:
    from nndl_suite.comparison.comparison import compare_architectures
    from nndl_suite.comparison.cutmix import CutMix
    from nndl_suite.comparison.train import train_architecture
    from nndl_suite.comparison.tuning import tune_architecture
    from nndl_suite.nerf.reconstructor import ColmapNerfReconstructor
    from nndl_suite.representation.pretrainer import SSLPretrainer
    from nndl_suite.representation.probe import LinearProbe

__version__ = "0.1.0"

__all__ = [
    "CaptureError",
    "ColmapNerfReconstructor",
    "ConfigError",
    "CutMix",
    "DataError",
    "LinearProbe",
    "NndlError",
    "RunError",
    "SSLPretrainer",
    "compare_architectures",
    "train_architecture",
    "tune_architecture",
]

_HOME = {
    "ColmapNerfReconstructor": "nndl_suite.nerf.reconstructor",
    "CutMix": "nndl_suite.comparison.cutmix",
    "LinearProbe": "nndl_suite.representation.probe",
    "SSLPretrainer": "nndl_suite.representation.pretrainer",
    "compare_architectures": "nndl_suite.comparison.comparison",
    "train_architecture": "nndl_suite.comparison.train",
    "tune_architecture": "nndl_suite.comparison.tuning",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'nndl_suite' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
