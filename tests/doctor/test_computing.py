import sys

import pytest

from nndl_suite.doctor import computing
from nndl_suite.doctor.computing import cpu_quota, judge_memory, judge_no_cuda, judge_threads, judge_triton

_GIB = 2**30


@pytest.mark.parametrize(
    ("threads", "cores", "quota", "environment", "state", "said"),
    [
        (8, 8, None, {}, "ok", "8 for 8"),
        (4, 8, None, {}, "ok", "4 for 8"),  # torch leaves hyper-threads alone
        (1, 8, None, {"OMP_NUM_THREADS": "1"}, "warn", "because OMP_NUM_THREADS is 1"),
        (8, 8, 2.0, {}, "warn", "8 for 2 usable cores"),
        (8, 8, 1.5, {}, "warn", "8 for 2 usable cores"),
        (2, 8, 2.0, {"OMP_NUM_THREADS": "2"}, "ok", "2 for 2"),
        (1, 1, 0.1, {}, "ok", "1 for 1 usable core"),
        (4, 2, None, {"OMP_NUM_THREADS": "4"}, "warn", "in each other's way"),
    ],
)
def test_threads_are_weighed_against_cores_and_a_containers_limit(threads, cores, quota, environment, state, said):
    found = judge_threads(threads, cores, quota, environment)
    assert found.state == state
    assert said in found.found
    assert (found.cure is None) == (state == "ok")


@pytest.mark.parametrize(("text", "cores"), [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("max 100000\n", None)])
def test_a_containers_limit_is_read(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_quota(tmp_path / "cpu.max") == cores
    assert cpu_quota(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("torch_cuda", "has_driver", "state", "cure"),
    [
        (None, False, "ok", None),
        ("12.8", False, "ok", None),
        (None, True, "warn", "--index-url"),
        ("12.8", True, "warn", "update the driver"),
    ],
)
def test_a_gpu_that_torch_does_not_see_has_a_reason(torch_cuda, has_driver, state, cure):
    found = judge_no_cuda(torch_cuda, has_driver=has_driver)
    assert found.state == state
    assert found.cure is None if cure is None else cure in found.cure


def test_triton_is_missed_on_cuda_alone():
    states = [
        judge_triton(is_there=is_there, has_cuda=has_cuda).state
        for is_there in (True, False)
        for has_cuda in (True, False)
    ]
    assert states == ["ok", "ok", "warn", "ok"]


@pytest.mark.parametrize(
    ("free", "shared", "state"),
    [
        (8 * _GIB, 4 * _GIB, "ok"),
        (8 * _GIB, None, "ok"),
        (None, None, "ok"),
        (1 * _GIB, 4 * _GIB, "warn"),
        (8 * _GIB, 64 * 2**20, "warn"),
    ],
)
def test_little_memory_is_a_warning(free, shared, state):
    assert judge_memory(free, shared=shared).state == state


def test_a_torch_that_does_not_load_is_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    found = computing.check_torch()
    assert found.state == "fail"
    assert "does not load" in found.found
    assert found.cure is not None
    assert found.cure.startswith("pip install")
