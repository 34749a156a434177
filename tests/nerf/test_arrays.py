"""Photos and cameras as arrays, against the files that they come from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nndl_suite import ColmapNerfReconstructor
from nndl_suite.data.demo_capture import make_demo_capture
from nndl_suite.errors import CaptureError
from nndl_suite.nerf.read_transforms import read_transforms


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_capture(tmp_path_factory.mktemp("capture"), photos=9, size=(40, 30))


def test_arrays_hold_the_files_photos_and_cameras(capture: Path, tmp_path: Path):
    arrays = ColmapNerfReconstructor(capture, out=tmp_path / "run").arrays()
    scene = read_transforms(capture / "transforms.json")
    assert (arrays.test, arrays.train) == ((0, 8), (1, 2, 3, 4, 5, 6, 7))
    for place, view in enumerate(scene.views):
        assert arrays.names[place] == view.name
        np.testing.assert_array_equal(arrays.images[place], np.asarray(Image.open(view.image)))
        np.testing.assert_array_equal(arrays.world_from_camera[place], view.world_from_camera)
    np.testing.assert_allclose(arrays.intrinsics[0], [[44, 0, 20], [0, 44, 15], [0, 0, 1]])
    assert arrays.counted == (None,) * 9
    assert not (tmp_path / "run").exists()  # nothing was trained, nothing is written


def test_directions_fall_back_on_their_pixels(capture: Path, tmp_path: Path):
    arrays = ColmapNerfReconstructor(capture, out=tmp_path / "run", max_side=32).arrays()
    assert arrays.images[0].shape == (24, 32, 3)
    pixels = arrays.directions[3] @ arrays.intrinsics[3].T
    pixels = pixels[..., :2] / pixels[..., 2:]
    x, y = np.meshgrid(np.arange(32) + 0.5, np.arange(24) + 0.5)
    np.testing.assert_allclose(pixels, np.stack([x, y], -1), atol=1e-4)


def test_tensors_are_channels_first_in_zero_to_one(capture: Path, tmp_path: Path):
    arrays = ColmapNerfReconstructor(capture, out=tmp_path / "run").arrays()
    tensors = arrays.tensors()
    assert tensors.images[2].shape == (3, 30, 40)
    assert torch.equal((tensors.images[2] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(arrays.images[2]))
    assert tensors.world_from_camera.shape == (9, 3, 4)
    tensors.images[2].zero_()
    assert arrays.images[2].any()  # copies


def test_photos_without_poses_say_what_is_missing(capture: Path, tmp_path: Path):
    with pytest.raises(CaptureError):
        ColmapNerfReconstructor(capture / "images", out=tmp_path / "run").arrays()
