"""A small labelled set on disk, for the experiments from end to end."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def small_set(tmp_path_factory) -> str:
    """The data name of 120 + 60 images of 16 px in three classes, told apart by their tint."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, n in (("train", 120), ("test", 60)):
        labels = np.arange(n) % 3
        images = rng.integers(0, 160, (n, 16, 16, 3))
        images[np.arange(n), :, :, labels] += 60
        np.savez(folder / f"tints-{split}.npz", images=images.astype(np.uint8), labels=labels)
    return f"arrays:{Path(folder) / 'tints.npz'}"
