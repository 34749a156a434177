"""Files are old or new, never half; a place that cannot be written is refused before the work."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nndl_suite.errors import RunError
from nndl_suite.training.files import append_line, check_place, write_atomically, write_json
from nndl_suite.training.parts import new_part
from nndl_suite.training.tensor_files import write_tensors

if os.name == "posix":
    import resource


def test_a_place_is_refused_before_the_work(tmp_path: Path):
    with pytest.raises(RunError, match="is a folder; give the name of a file"):
        check_place(tmp_path)
    (tmp_path / "file").write_text("here")
    with pytest.raises(RunError, match="cannot write in .*; choose another place"):
        check_place(tmp_path / "file" / "orbit.mp4")
    check_place(tmp_path / "new" / "orbit.mp4")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="nothing tells on Windows who is dead")
def test_a_killed_writer_of_the_same_file_leaves_nothing(tmp_path: Path):
    left = tmp_path / ".orbit.mp4.ab12.part.mp4"
    left.write_bytes(b"half")
    other = tmp_path / ".other.mp4.ab12.part.mp4"
    other.write_bytes(b"half")
    handle, living = new_part(tmp_path / "orbit.mp4")
    write_atomically(tmp_path / "orbit.mp4", lambda part: part.write_bytes(b"whole"))
    assert not left.exists()
    assert living.exists()
    assert other.exists()
    assert (tmp_path / "orbit.mp4").read_bytes() == b"whole"
    os.close(handle)


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
@pytest.mark.parametrize("kind", ["json", "tensors"])
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path, kind: str):
    file = tmp_path / "file"
    file.write_text("old")
    write = {
        "json": lambda: write_json(file, "x" * 10**5),
        "tensors": lambda: write_tensors(file, {"a": torch.zeros(10**5)}, {}),
    }[kind]
    found = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, found[1]))
    try:
        with pytest.raises(RunError, match="cannot write .*file: .*File too large.*; free some space"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, found)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "old"


def test_a_line_behind_one_that_was_cut_short_is_not_lost(tmp_path: Path):
    log = tmp_path / "metrics.jsonl"
    append_line(log, '{"step": 1}')
    with log.open("a") as file:
        file.write('{"step": 2, "lo')
    append_line(log, '{"step": 3}')
    append_line(log, '{"step": 4}')
    assert log.read_text().split("\n") == ['{"step": 1}', '{"step": 2, "lo', '{"step": 3}', '{"step": 4}', ""]


def test_tensors_are_written_into_the_unfinished_file_and_nowhere_else(tmp_path: Path, monkeypatch):
    """Which is how a later writer finds what a kill left; safetensors' own writing makes a file of another name."""
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.extend(path.name for path in tmp_path.iterdir()))
    write_tensors(tmp_path / "a.safetensors", {"a": torch.arange(3)}, {"said": "so"})
    assert seen[0].startswith(".a.safetensors.")
    assert seen[0].endswith(".part.safetensors")
    assert len(set(seen)) <= 2
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [0, 1, 2]
