"""A kept JSON file says what was written into it, or is refused."""

import json

import pytest

from nndl_suite.errors import DamagedFile, NndlError
from nndl_suite.training.files import read_json, write_json
from nndl_suite.training.sealed_json import read_sealed, write_sealed

CONTENT = {"scale": 0.1 + 0.2, "rows": [[1, 2.5], [-3e-300, 4]], "name": "täße", "none": None}


def test_what_is_written_comes_back(tmp_path):
    write_sealed(tmp_path / "a.json", CONTENT)
    assert read_sealed(tmp_path / "a.json") == CONTENT
    assert set(read_json(tmp_path / "a.json")) == {*CONTENT, "checksum"}  # other programs read it too


def test_no_changed_bit_and_no_cut_is_taken_for_a_number(tmp_path):
    file = tmp_path / "a.json"
    write_sealed(file, CONTENT)
    content, accepted, refused = file.read_bytes(), 0, []
    spoilt = [
        content[:i] + bytes([content[i] ^ 1 << bit]) + content[i + 1 :] for i in range(len(content)) for bit in (0, 4)
    ]
    for damaged in [*spoilt, *(content[:keep] for keep in range(len(content) - 2))]:
        file.write_bytes(damaged)
        try:
            found = read_sealed(file)
        except NndlError as error:
            refused.append(str(error))
            continue
        accepted += 1
        found = {key: value for key, value in found.items() if key in CONTENT}
        assert found == CONTENT  # a changed blank, or the checksum's own key
    assert accepted < 0.2 * len(spoilt)
    assert all(str(file) in told for told in refused)


def test_what_was_changed_on_purpose_says_so_by_leaving_the_checksum_out(tmp_path):
    file = tmp_path / "a.json"
    write_sealed(file, CONTENT)
    changed = {**read_json(file), "scale": 2.0}
    file.write_text(json.dumps(changed))
    with pytest.raises(DamagedFile, match='take the line "checksum" out'):
        read_sealed(file)
    write_json(file, {key: value for key, value in changed.items() if key != "checksum"})
    assert read_sealed(file)["scale"] == 2.0
