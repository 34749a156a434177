"""Plain torch where Triton cannot run; and Triton's kernels by its interpreter, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nndl_suite.nerf.gpu import plain
from nndl_suite.nerf.gpu.chosen import TRITON, kernels

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def test_tensors_on_the_cpu_are_plain_torchs_unless_triton_is_interpreted():
    chosen = kernels("hash_grid", torch.zeros(1))
    if _INTERPRETED:
        assert chosen.__name__.endswith("triton_hash_grid")
    else:
        assert chosen is plain


@pytest.mark.skipif(_INTERPRETED, reason="this is the process that it starts")
@pytest.mark.skipif(not TRITON, reason="needs Triton")
def test_tritons_kernels_pass_the_same_tests_by_its_interpreter():
    """Triton reads the variable when it is first imported, which another test may have caused by now."""
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
