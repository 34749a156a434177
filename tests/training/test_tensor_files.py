"""What is written here, safetensors reads, to the bit; and nothing is held twice in memory for it."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save

from nndl_suite.training.tensor_files import checksum, write_tensors

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    torch.bool,
)


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = torch.Size(shape).numel() * dtype.itemsize
    values = torch.tensor(
        draw(st.lists(st.integers(0, 1 if dtype == torch.bool else 255), min_size=count, max_size=count))
    )
    return values.to(torch.uint8).view(dtype).reshape(shape)


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


@given(content=st.dictionaries(st.text('ab.é☂"\\ ', max_size=5).filter(lambda name: name != "__metadata__"), tensors()))
def test_safetensors_reads_it_to_the_bit(content, tmp_path_factory):
    file = tmp_path_factory.mktemp("tensors") / "a.safetensors"
    write_tensors(file, content, {"said": 'so "☂"'})
    with safe_open(file, framework="pt") as found:
        assert found.metadata() == {"said": 'so "☂"'}
        read = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118 - not a dict
    assert read.keys() == content.keys()
    for name, tensor in content.items():
        assert (read[name].dtype, read[name].shape, raw(read[name])) == (tensor.dtype, tensor.shape, raw(tensor))


def test_the_body_is_the_one_that_safetensors_writes(tmp_path):
    content = {"b": torch.arange(3, dtype=torch.int8), "c": torch.randn(5), "a": torch.randn(2, 2, dtype=torch.float64)}
    write_tensors(tmp_path / "a", content, {})
    ours, theirs = (tmp_path / "a").read_bytes(), save(content)
    body = sum(tensor.nbytes for tensor in content.values())
    assert ours[-body:] == theirs[-body:]
    assert (len(ours) - body) % 8 == 0


def test_views_are_written_as_what_they_show(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    write_tensors(
        tmp_path / "a", {"whole": whole, "turned": whole.T, "row": whole[1], "needs": whole.requires_grad_()}, {}
    )
    found = load_file(tmp_path / "a")
    assert torch.equal(found["turned"], whole.detach().T)
    assert torch.equal(found["row"], whole.detach()[1])
    assert torch.equal(found["needs"], whole.detach())
    assert checksum({}, found) == checksum({}, {**found, "turned": whole.detach().T})


def test_a_type_without_a_name_is_refused_and_the_old_file_stays(tmp_path):
    write_tensors(tmp_path / "a", {"x": torch.ones(1)}, {})
    with pytest.raises(TypeError, match="x is of torch.complex64, which safetensors files do not hold"):
        write_tensors(tmp_path / "a", {"x": torch.ones(1, dtype=torch.complex64)}, {})
    assert load_file(tmp_path / "a")["x"].tolist() == [1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_checkpoint_takes_no_memory_of_its_state_s_size(tmp_path):
    """200 MB of state; a copy of it would show in the most memory that the process ever had."""
    done = subprocess.run(
        [sys.executable, "-c", SAVING, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(done.stdout) < 40


SAVING = """
import sys
from pathlib import Path
import torch
from nndl_suite.training.checkpoints import Checkpoint, save_checkpoint
def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
state = {f"w{i}": torch.ones(250_000) for i in range(200)}
save_checkpoint(Path(sys.argv[1]), Checkpoint(step=0, seconds=0.0, state={"small": torch.ones(1)}))
before = most()
save_checkpoint(Path(sys.argv[1]), Checkpoint(step=1, seconds=0.0, state=state))
print(most() - before)
"""
