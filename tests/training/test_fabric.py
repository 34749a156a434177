import pytest
import torch

from nndl_suite.errors import ConfigError
from nndl_suite.training.fabric import make_fabric, resolve_device


def test_cpu_float32_is_always_there():
    fabric = make_fabric("cpu", "32-true")
    assert fabric.device == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_cuda_on_a_machine_without_it_says_so():
    with pytest.raises(ConfigError, match="use --device cpu"):
        resolve_device("cuda")


def test_typos_get_near_matches():
    with pytest.raises(ConfigError, match="did you mean 'cuda'"):
        resolve_device("cudaa")
    with pytest.raises(ConfigError, match="bf16-mixed"):
        make_fabric("cpu", "bf16")
