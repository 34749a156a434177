import os
import subprocess
import sys

import pytest
import torch

from nndl_suite.errors import ConfigError
from nndl_suite.training import fabric, processes
from nndl_suite.training.agreement import Agreement
from nndl_suite.training.environment import Spread, is_first_here, is_told_first, slurm_started, torchrun_started
from nndl_suite.training.fabric import check_spread, join_fabric, make_fabric
from nndl_suite.training.processes import Part, own_part, spread_evenly
from nndl_suite.training.starting import start_others

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "RANK": "4", "LOCAL_RANK": "1"}
SRUN = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "0"}


def test_who_has_started_processes():
    assert torchrun_started(TORCHRUN) == Spread(devices=3, nodes=2)
    assert slurm_started(SRUN) == Spread(devices=4, nodes=2)
    assert slurm_started({"SLURM_NTASKS": "8"}) is None  # a batch script, before srun
    assert torchrun_started({}) is slurm_started({}) is None


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        (TORCHRUN, False),
        (TORCHRUN | {"RANK": "0"}, True),
        (SRUN, True),
        (SRUN | {"SLURM_PROCID": "3"}, False),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, True),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, False),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
    ],
)
def test_who_speaks(variables, first):
    assert is_told_first(variables) is first


def test_who_speaks_for_a_machine():
    assert is_first_here({})
    assert is_first_here({"WORLD_SIZE": "4", "LOCAL_RANK": "0", "NODE_RANK": "1"})
    assert not is_first_here(TORCHRUN)
    assert not is_first_here({"SLURM_PROCID": "5", "SLURM_LOCALID": "1"})


def test_what_is_asked_for_and_what_is_there():
    assert check_spread(Spread(2), None) == Spread(2)
    assert check_spread(Spread(), Spread(3, 2)) == Spread(3, 2)
    assert check_spread(Spread(3, 2), Spread(3, 2)) == Spread(3, 2)
    with pytest.raises(ConfigError, match="leave --devices and --nodes out"):
        check_spread(Spread(2), Spread(3, 2))
    with pytest.raises(ConfigError, match="must be >= 1"):
        check_spread(Spread(0), None)


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(fabric, "resolve_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="2 processes want a GPU each, and this machine has 1"):
        join_fabric("auto", "32-true", Spread(2))


def test_a_test_is_no_command_to_run_again():
    with pytest.raises(ConfigError, match="use the command line, a script, or torchrun"):
        join_fabric("cpu", "32-true", Spread(2))


def test_machines_that_do_not_know_of_one_another():
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        start_others(Spread(1, 2))


def test_what_one_process_does_is_not_done_by_several(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="one process alone") as refused:
        make_fabric("cpu", "32-true")
    assert refused.value.told  # by RANK 0


def test_parts_are_the_batch(monkeypatch):
    for world, total in ((3, 12), (4, 12), (1, 5)):
        monkeypatch.setattr(processes, "world_size", lambda world=world: world)
        found, shares = [], []
        for own in range(world):
            monkeypatch.setattr(processes, "rank", lambda own=own: own)
            part, share = own_part(total), spread_evenly(total + 1)
            assert len(part) == total // world
            found += list(range(total))[part.rows]
            shares += list(range(total + 1))[share.rows]
        assert found == list(range(total))
        assert shares == list(range(total + 1))


def test_a_batch_that_does_not_divide(monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 5)
    monkeypatch.setattr(processes, "rank", lambda: 0)
    with pytest.raises(ConfigError, match="multiple of the 5 processes"):
        own_part(12)


def test_alone_everything_is_as_it_was():
    rows = torch.arange(3)
    assert processes.gathered(rows) is processes.summed(rows) is rows
    assert processes.averaged({"loss": torch.tensor(2.0)}) == {"loss": 2.0}
    assert processes.from_first(lambda: 7) == 7
    assert Agreement().of(5, stops=True, saves=False, seconds=2.5) == (True, False, 2.5)
    assert processes.whole(4) == Part(0, 4, 4)


class _Others:
    """The largest of what this process says and of what others say."""

    def __init__(self, told):
        self.told, self.asked = told, 0

    def __call__(self, numbers):
        self.asked += 1
        return [max(pair) for pair in zip(numbers, self.told, strict=True)]


def test_an_agreement_is_sought_now_and_then(monkeypatch):
    others = _Others([0.0, 0.0, 0.0, 10.0])
    module = sys.modules["nndl_suite.training.agreement"]
    monkeypatch.setattr(module, "world_size", lambda: 2)
    monkeypatch.setattr(module, "is_first", lambda: False)
    monkeypatch.setattr(module, "largest", others)
    agreement, seconds = Agreement(), 99.0
    agreed = [agreement.of(index, stops=False, saves=True, seconds=seconds) for index in range(31, 50)]
    assert others.asked == 2
    assert agreed == [(False, False, 0.0)] * 19  # what this process's clock says is not asked
    others.told = [1.0, 0.0, 3.5, 10.0]
    assert agreement.of(51, stops=False, saves=False, seconds=seconds) == (True, False, 3.5)


_ORPHAN = """
import os, subprocess, sys, time
from nndl_suite.training.environment import PARENT
if PARENT in os.environ:
    from nndl_suite.training.environment import Spread
    from nndl_suite.training.starting import start_others
    start_others(Spread(2))
    print("started", flush=True)
    time.sleep(60)
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[1]],
                 env={**os.environ, PARENT: str(os.getpid()), "LOCAL_RANK": "1", "WORLD_SIZE": "2"})
time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_none_outlives_the_one_that_started_it():
    first = subprocess.Popen(
        [sys.executable, "-c", _ORPHAN, _ORPHAN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "started\n"
    first.kill()
    _, told = first.communicate(timeout=10)  # until the other has closed the pipes too
    assert told.count("one of the 2 processes has ended before its time") == 1
