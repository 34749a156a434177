"""What all tests share: patience, repeatability, shape checks, and the way to the real data."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The root of the real data; skips the test where there is none."""
    root = os.environ.get("NNDL_SUITE_DATA")
    if not root or not (Path(root) / "cifar100-train.npz").exists():
        pytest.skip("no real data (NNDL_SUITE_DATA)")
    return Path(root)
