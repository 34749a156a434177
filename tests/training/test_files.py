"""A place that cannot be written is refused before the work."""

from pathlib import Path

import pytest

from nndl_suite.errors import RunError
from nndl_suite.training.files import check_place


def test_a_place_is_refused_before_the_work(tmp_path: Path):
    with pytest.raises(RunError, match="is a folder; give the name of a file"):
        check_place(tmp_path)
    (tmp_path / "file").write_text("here")
    with pytest.raises(RunError, match="cannot write in .*; choose another place"):
        check_place(tmp_path / "file" / "orbit.mp4")
    check_place(tmp_path / "new" / "orbit.mp4")
    assert list((tmp_path / "new").iterdir()) == []
