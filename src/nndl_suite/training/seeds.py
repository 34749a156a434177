"""Randomness that the seed alone decides.

Draws are counter-based: what is random in step `index` is a pure function of (seed, stream, index). A resumed run
therefore has no generator to restore, and asking for step 1000 costs the same as asking for step 0.
"""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager

import torch


def derived_seed(seed: int, stream: str, index: int = 0) -> int:
    """A 63-bit seed for one purpose (`stream`) at one step (`index`); neighbours are unrelated."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(seed: int, stream: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one purpose at one step."""
    return torch.Generator(device).manual_seed(derived_seed(seed, stream, index))


@contextmanager
def isolated_rng(seed: int) -> Generator[None, None, None]:
    """Seed torch's global generators inside, and leave the caller's as they were.

    For code that takes no generator: weight initialisation, dropout, stochastic depth.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
