import signal

import pytest

from nndl_suite.training.stopping import stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_inside_and_outside(number):
    with stop_requests() as outer:
        with stop_requests() as inner:
            signal.raise_signal(number)
            assert inner.is_set()
        with stop_requests() as later:
            assert not later.is_set()
        assert outer.is_set()


def test_the_second_ctrl_c_interrupts_at_once():
    with stop_requests():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def usual_ctrl_c():
    """Python's own handler, also where the tests were started in the background, which leaves Ctrl-C ignored."""
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, found)


@pytest.mark.usefixtures("usual_ctrl_c")
def test_handlers_are_left_as_they_were():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_requests(), stop_requests():
        pass
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
