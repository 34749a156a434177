"""Whatever stands in a file: a valid result, or an NndlError that names it; in time, and with numbers that are some."""

import shutil
import signal
from contextlib import contextmanager

import pytest
from fuzz_targets import TARGETS, names_it, spoil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nndl_suite.errors import NndlError

_SECONDS = 10
QUICK = tuple(target for target in TARGETS if target.cost < 50)


@contextmanager
def _within_seconds():
    def too_long(*_):
        raise AssertionError(f"took more than {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_valid_input_is_read(target, tmp_path):
    target.make(tmp_path)
    target.read(tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's own word on a byte that was changed
@pytest.mark.parametrize("target", QUICK, ids=lambda target: target.name)
def test_a_wrong_input_is_read_or_refused_by_name(target, tmp_path):
    valid, folder = tmp_path / "valid", tmp_path / "input"
    valid.mkdir()
    target.make(valid)

    @settings(max_examples=int(12 / target.cost) + 2, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def check(random):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(valid, folder)
        file = spoil(target, folder, random)
        refusal = None
        try:
            with _within_seconds():
                target.read(folder)
        except NndlError as error:
            refusal = str(error)
        assert refusal is None or names_it(refusal, file, folder), refusal

    check()
