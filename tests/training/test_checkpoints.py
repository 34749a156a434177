import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from nndl_suite.errors import DamagedFile, NndlWarning, RunError
from nndl_suite.training.checkpoints import (
    Checkpoint,
    checkpoint_files,
    equal_states,
    load_checkpoint,
    load_newest,
    save_checkpoint,
    take_up,
)
from nndl_suite.training.tensor_files import checksum

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


def saved(folder, step):
    state = {"w": torch.arange(24.0).reshape(4, 6) + step, "moments": {0: [torch.ones(3, dtype=torch.bfloat16), step]}}
    settings = {"seed": 7, "fingerprints": ["ab", "cd"]}
    return save_checkpoint(folder, Checkpoint(step=step, seconds=step / 2, state=state, settings=settings))


def same(a, b):
    return (a.step, a.seconds, a.settings, a.package) == (b.step, b.seconds, b.settings, b.package) and equal_states(
        a.state, b.state
    )


def test_no_changed_bit_is_taken_for_a_number(tmp_path):
    """A bit changed in every third byte of the file: it says what it said, or is refused as damaged."""
    file = saved(tmp_path, 3)
    content, whole, refused = file.read_bytes(), load_checkpoint(file), []
    for place in range(0, len(content), 3):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            found = load_checkpoint(file)
        except DamagedFile as error:
            refused.append(str(error))
        else:
            assert same(found, whole), place
    assert len(refused) > 0.9 * len(content) / 3
    assert all(str(file) in told for told in refused)


def test_no_cut_file_is_taken_for_a_whole_one(tmp_path):
    file = saved(tmp_path, 3)
    content = file.read_bytes()
    for keep in [*range(0, len(content), 53), *range(len(content) - 9, len(content))]:
        file.write_bytes(content[:keep])
        with pytest.raises(DamagedFile, match="step-000000003.safetensors is damaged"):
            load_checkpoint(file)


@pytest.mark.parametrize("spoil", [lambda b: b[:-4], lambda b: b[:-4] + b"\1" + b[-3:], lambda b: b""])
def test_the_one_before_a_damaged_one_is_used_and_both_are_named(tmp_path, spoil):
    before = load_checkpoint(saved(tmp_path, 3))
    newest = saved(tmp_path, 9)
    newest.write_bytes(spoil(newest.read_bytes()))
    with pytest.warns(NndlWarning, match=r"step-000000009.safetensors is damaged .* of step 3, is used"):
        assert same(load_newest(tmp_path), before)
    assert newest.exists()  # who only reads leaves the folder as it is


def test_where_none_is_whole_each_is_named(tmp_path):
    for step in (3, 9):
        file = saved(tmp_path, step)
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"no checkpoint .* is whole: .*step-000000009.*step-000000003.*; delete"):
        load_newest(tmp_path)


def test_a_run_that_goes_on_puts_damaged_ones_out_of_the_way(tmp_path):
    saved(tmp_path, 3)
    newest = saved(tmp_path, 9)
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(NndlWarning, match="it is kept as step-000000009.damaged"):
        assert take_up(tmp_path).step == 3
    for step in (5, 7):
        saved(tmp_path, step)
    assert [file.name[-14:-12] for file in checkpoint_files(tmp_path)] == ["05", "07"]
    assert take_up(tmp_path).step == 7


@pytest.mark.parametrize("read", [load_newest, take_up])
def test_without_memory_no_checkpoint_is_called_damaged(tmp_path, monkeypatch, read):
    def lacking(_content):
        raise RuntimeError("unable to mmap 8602884 bytes from file <step>: Cannot allocate memory (12)")

    for step in (3, 9):
        saved(tmp_path, step)
    before = checkpoint_files(tmp_path)
    monkeypatch.setattr("nndl_suite.training.checkpoints.tensors_of", lacking)
    with pytest.raises(RuntimeError, match="Cannot allocate memory"):
        read(tmp_path)
    assert checkpoint_files(tmp_path) == before


def rewritten(file, **words):
    """The checkpoint with other words in its header; None takes one out."""
    with safe_open(file, framework="pt") as content:
        header = {**content.metadata(), **words}
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    save_file(tensors, file, metadata={key: word for key, word in header.items() if word is not None})


def test_a_checkpoint_of_version_1_is_read_and_the_next_is_of_this_one(tmp_path):
    file = saved(tmp_path, 3)
    whole = load_checkpoint(file)
    first = dict.fromkeys(("version", "package", "settings", "checksum")) | {"format": "nndl-suite checkpoint 1"}
    rewritten(file, **first)
    found = load_newest(tmp_path)
    assert (found.step, found.seconds, found.settings, found.package) == (3, 1.5, None, "")
    assert equal_states(found.state, whole.state)
    assert load_checkpoint(saved(tmp_path, 4)).settings == whole.settings


def test_what_was_read_stays_when_the_file_is_overwritten(tmp_path):
    file = saved(tmp_path, 3)
    found = load_checkpoint(file)
    with file.open("r+b") as there:
        there.seek(file.stat().st_size - 96)  # `w` comes last
        there.write(bytes(96))
    assert torch.equal(found.state["w"], torch.arange(24.0).reshape(4, 6) + 3)
    with pytest.raises(DamagedFile):
        load_checkpoint(file)


def test_a_newer_version_is_refused_and_none_before_it_is_used(tmp_path):
    saved(tmp_path, 3)
    rewritten(saved(tmp_path, 9), format="nndl-suite checkpoint 3", version="3", package="9.1")
    with pytest.raises(RunError, match=r"step-000000009.* made by a newer nndl-suite \(9.1; .*update") as refused:
        load_newest(tmp_path)
    assert not isinstance(refused.value, DamagedFile)


@pytest.mark.parametrize(
    "words",
    [
        {"format": "nndl-suite checkpoint 3"},
        {"version": "3"},
        {"format": "nndl-suite checkpoint 1", "version": None},
        {"checksum": None},
        {"settings": '{"seed": 8}'},
        {"step": "4"},
    ],
)
def test_a_header_that_does_not_agree_with_itself_is_damaged(tmp_path, words):
    file = saved(tmp_path, 3)
    rewritten(file, **words)
    with pytest.raises(DamagedFile, match="is damaged"):
        load_checkpoint(file)


def test_a_foreign_file_is_refused_by_name(tmp_path):
    file = tmp_path / "step-000000001.safetensors"
    save_file({"w": torch.ones(2)}, file)
    with pytest.raises(DamagedFile, match="step-000000001.safetensors is not a checkpoint of this package"):
        load_checkpoint(file)


def test_the_checksum_is_of_all_that_is_said():
    header, tensors = {"a": "1"}, {"w": torch.zeros(2, 3), "v": torch.zeros(2, 3)}
    said = checksum(header, tensors)
    assert checksum({"checksum": "x", "a": "1"}, dict(reversed(tensors.items()))) == said
    others = [
        ({"a": "2"}, tensors),
        ({"b": "1"}, tensors),
        (header, {**tensors, "w": torch.zeros(3, 2)}),
        (header, {**tensors, "w": torch.zeros(2, 3, dtype=torch.int32)}),
        (header, {**tensors, "w": torch.full((2, 3), -0.0)}),
        (header, {"w": tensors["w"]}),
        (header, {"w": tensors["w"], "u": tensors["v"]}),
    ]
    assert said not in {checksum(*other) for other in others}


def test_a_state_with_an_object_in_it_is_a_bug(tmp_path):
    with pytest.raises(TypeError, match="a.b is a"):
        save_checkpoint(tmp_path, Checkpoint(step=1, seconds=0, state={"a": {"b": object()}}))
