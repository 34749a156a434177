"""Batch norms over two processes do what torch's do over the whole batch in one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from norms_of_two import CASES, figures
from torch import distributed, nn

from nndl_suite.errors import ConfigError
from nndl_suite.models import synchronised_norms
from nndl_suite.models.synchronised_norms import synchronise_norms

SCRIPT = Path(__file__).with_name("norms_of_two.py")


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """What each of two processes found of its half."""
    if not distributed.is_gloo_available():
        pytest.skip("torch was built without gloo")
    folder = tmp_path_factory.mktemp("norms")
    running = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(rank), str(folder)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in running:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("kind", "digits"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_two_halves_are_the_whole(name, kind, digits, halves):
    whole = figures(*CASES[name], slice(None), kind)
    first, second = (half[f"{name} {kind}"] for half in halves)
    assert set(first) == set(second) == set(whole)
    for key, expected in whole.items():
        if key.startswith("weight"):  # data-parallel training takes the mean over processes of their losses
            found = first[key] + second[key]
        elif key.startswith("state"):
            assert torch.equal(first[key], second[key])
            found = first[key]
        else:
            found = torch.cat([first[key], second[key]])
        torch.testing.assert_close(
            found, expected, rtol=10 * digits, atol=10 * digits, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_alone_nothing_changes():
    network = nn.Sequential(nn.BatchNorm1d(3))
    synchronise_norms(network)
    assert type(network[0]) is nn.BatchNorm1d


def test_names_and_hooks_stay(monkeypatch):
    monkeypatch.setattr(synchronised_norms, "world_size", lambda: 2)
    network, told = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), []
    network[1].register_forward_hook(lambda *_: told.append(1))
    names = list(network.state_dict())
    synchronise_norms(network.eval())
    assert list(network.state_dict()) == names
    network(torch.zeros(2, 3, 4, 4))  # in eval mode, nobody is asked
    assert told == [1]


def test_a_norm_that_is_not_known(monkeypatch):
    monkeypatch.setattr(synchronised_norms, "world_size", lambda: 2)
    with pytest.raises(ConfigError, match="BatchNorm3d is a batch norm that several processes cannot share"):
        synchronise_norms(nn.Sequential(nn.BatchNorm3d(2)))
