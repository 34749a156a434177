"""Images that are opened side by side: Pillow stays quiet for each, and nobody's filters are changed."""

import warnings

import numpy as np
import pytest
from PIL import Image

from nndl_suite.data.open_image import open_image


def pillow_warns():
    warnings.warn_explicit("Corrupt EXIF data", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")


def test_the_first_to_leave_takes_the_quiet_from_nobody(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        first, second = open_image(file), open_image(file)  # as two threads have them
        assert first.__enter__().size == second.__enter__().size == (5, 4)
        pillow_warns()
        first.__exit__(None, None, None)
        pillow_warns()
        second.__exit__(None, None, None)
        assert warnings.filters == before
        with pytest.raises(UserWarning, match="Corrupt"):
            pillow_warns()


def test_an_image_that_is_none_leaves_the_filters_as_they_were(tmp_path):
    (tmp_path / "a.png").write_bytes(b"none")
    before = list(warnings.filters)
    with pytest.raises(OSError, match="cannot identify"), open_image(tmp_path / "a.png"):
        pass
    assert warnings.filters == before
