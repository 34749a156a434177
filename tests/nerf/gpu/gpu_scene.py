"""Small captures that the tests of training on a device share."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from nndl_suite.data.demo_capture import make_demo_capture
from nndl_suite.nerf.field import FieldSettings
from nndl_suite.nerf.frame import field_frame
from nndl_suite.nerf.photos import PosedPhotos, load_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.trainer import TrainSettings

OPEN = TrainSettings(samples_per_step=96 * 24, field=FieldSettings(log2_rows=10, finest=128))
BALL = TrainSettings(samples_per_step=96 * 24, field=FieldSettings(log2_rows=10, finest=128, bound=0.8))


def demo_photos(folder: Path) -> PosedPhotos:
    """Twelve small photos of the demo scene."""
    scene = read_scene(make_demo_capture(folder / "capture", photos=12, size=(48, 36)))
    return load_photos(scene, tuple(range(len(scene.views))), field_from_world=field_frame(scene))


def cut_out(photos: PosedPhotos) -> PosedPhotos:
    """The photos with alpha: a disc in the middle, with a soft rim; and a column that does not count."""
    height, width = photos.sizes[0]
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(x + 0.5 - width / 2, y + 0.5 - height / 2) / height
    alpha = np.clip((0.4 - radius) * 1000, 0, 255).astype(np.uint8).reshape(-1, 1)
    count = len(photos.names)
    pixels = np.concatenate([photos.pixels[:, :3], np.tile(alpha, (count, 1))], axis=1)
    return replace(photos, pixels=pixels, counted=np.tile((x > 0).ravel(), count))
