"""What all tests share: patience, repeatability, shape checks, and the way to the real data."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep what the package keeps in the user's cache away from it; torch's and matplotlib's stay where they are."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name, folder in (("TORCH_HOME", "torch"), ("MPLCONFIGDIR", "matplotlib")):
            if name not in os.environ:
                patch.setenv(name, str(usual / folder))
        yield


@pytest.fixture(scope="session", autouse=True)
def unflushed():
    """Nobody cuts the power of a test, and waiting for the disk takes a large part of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The root of the real data; skips the test where there is none."""
    root = os.environ.get("NNDL_SUITE_DATA")
    if not root or not (Path(root) / "cifar100-train.npz").exists():
        pytest.skip("no real data (NNDL_SUITE_DATA)")
    return Path(root)
