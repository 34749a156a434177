import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from nndl_suite.errors import RunError
from nndl_suite.training.checkpoints import (
    Checkpoint,
    checkpoint_files,
    equal_states,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.builds(lambda n: torch.arange(n, dtype=torch.float32), st.integers(0, 4))
)
nodes = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.dictionaries(st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(state=st.dictionaries(st.text("abc.", max_size=4), nodes, max_size=3))
def test_any_state_comes_back_to_the_last_bit(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    file = save_checkpoint(folder, Checkpoint(step=3, seconds=0.1, state=state))
    found = load_checkpoint(file)
    assert found.step == 3
    assert found.seconds == 0.1
    assert equal_states(found.state, state)


def test_an_optimiser_goes_on_exactly(tmp_path):
    def steps(model, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            model(torch.ones(2, 3)).square().sum().backward()
            optimiser.step()

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    steps(model, optimiser, 3)
    save_checkpoint(
        tmp_path,
        Checkpoint(step=3, seconds=1, state={"model": model.state_dict(), "optimiser": optimiser.state_dict()}),
    )
    again = torch.nn.Linear(3, 2)
    other = torch.optim.AdamW(again.parameters(), lr=0.5)
    state = load_newest(tmp_path).state
    again.load_state_dict(state["model"])
    other.load_state_dict(state["optimiser"])
    steps(model, optimiser, 3)
    steps(again, other, 3)
    assert torch.equal(model.weight, again.weight)


def test_tied_tensors_are_saved_twice_not_refused(tmp_path):
    weight = torch.ones(3)
    file = save_checkpoint(tmp_path, Checkpoint(step=1, seconds=0, state={"a": weight, "b": weight}))
    assert torch.equal(load_checkpoint(file).state["b"], weight)


def test_the_newest_two_are_kept(tmp_path):
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, Checkpoint(step=step, seconds=0, state={}))
    assert [file.name for file in checkpoint_files(tmp_path)] == [
        "step-000000002.safetensors",
        "step-000000010.safetensors",
    ]
    assert load_newest(tmp_path).step == 10
    assert not list(tmp_path.glob("*.part*"))


def test_no_checkpoint_is_no_error(tmp_path):
    assert load_newest(tmp_path) is None


@pytest.mark.parametrize("keep", [0, 7, 60, -4])
def test_a_truncated_checkpoint_is_refused_by_name(tmp_path, keep):
    file = save_checkpoint(tmp_path, Checkpoint(step=1, seconds=0, state={"w": torch.ones(40)}))
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(RunError, match="step-000000001.safetensors is damaged"):
        load_newest(tmp_path)


def test_a_foreign_file_is_refused_by_name(tmp_path):
    file = tmp_path / "step-000000001.safetensors"
    save_file({"w": torch.ones(2)}, file)
    with pytest.raises(RunError, match="not a checkpoint of this package"):
        load_checkpoint(file)


def test_a_state_with_an_object_in_it_is_a_bug(tmp_path):
    with pytest.raises(TypeError, match="a.b is a"):
        save_checkpoint(tmp_path, Checkpoint(step=1, seconds=0, state={"a": {"b": object()}}))
