"""Where an object can be, by its silhouettes: a ball, whose hull is known."""

import numpy as np
import pytest

from nndl_suite.nerf.hull import hull_cells, near_silhouettes, object_ball, object_field
from nndl_suite.nerf.path import look_at
from nndl_suite.nerf.photos import PosedPhotos

F = np.float32
SIZE = 128
CENTRE, RADIUS = np.array([0.08, -0.05, 0.1]), 0.2


def _photos(*, radius: float = RADIUS, bend: float = 0.0, channels: int = 4, count: int = 24) -> PosedPhotos:
    """Photos of a white ball on nothing, from all round at distance 1; `bend` distorts the lens."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(count, 3))
    poses = look_at(places / np.linalg.norm(places, axis=1, keepdims=True))
    x, y = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE - 0.5, (np.arange(SIZE) + 0.5) / SIZE - 0.5)
    stretch = 1 + bend * (x**2 + y**2)
    rays = np.stack([x * stretch, y * stretch, np.full_like(x, 0.8)], axis=-1).reshape(-1, 3)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    pixels = np.full((count * SIZE * SIZE, channels), 255, np.uint8)
    for index, pose in enumerate(poses):
        toward = rays @ pose[:, :3].T
        along = (CENTRE - pose[:, 3]) @ toward.T
        apart = np.linalg.norm(pose[:, 3] + along[:, None] * toward - CENTRE, axis=1)
        pixels[index * SIZE * SIZE : (index + 1) * SIZE * SIZE, -1] = np.where(apart < radius, 255, 0)
    return PosedPhotos(
        names=tuple(f"{i}.png" for i in range(count)),
        sizes=((SIZE, SIZE),) * count,
        pixels=pixels,
        starts=np.arange(count + 1) * SIZE * SIZE,
        camera_of=np.zeros(count, np.int64),
        directions=rays.astype(F),
        direction_starts=np.array([0, SIZE * SIZE]),
        field_from_camera=poses.astype(F),
    )


@pytest.mark.parametrize("bend", [0.0, 0.05])
def test_the_ball_about_a_ball_is_found_whatever_the_lens(bend: float):
    found = object_ball(_photos(bend=bend))
    assert found is not None
    # it has to hold the object, and no more of what lies about it than pixels and cells are large
    assert np.linalg.norm(found.centre - CENTRE) + RADIUS <= found.radius
    assert found.radius < RADIUS * 2
    moved = found.unit_from_here.apply(CENTRE[None])[0]
    assert np.linalg.norm(moved) + RADIUS / found.radius <= 1


def test_cells_of_the_hull_are_those_of_the_ball():
    side = 32
    cells = hull_cells(_photos(), half=0.5, side=side)
    assert cells is not None
    middles = (np.arange(side) + 0.5) / side - 0.5
    z, y, x = np.meshgrid(middles, middles, middles, indexing="ij")
    distance = np.linalg.norm(np.stack([x, y, z], axis=-1) - CENTRE, axis=-1)
    assert cells[distance < RADIUS].all()
    assert not cells[distance > RADIUS + 0.08].any()


@pytest.mark.parametrize("photos", [_photos(channels=3), _photos(radius=5.0), _photos(radius=0.0), _photos(bend=8.0)])
def test_without_silhouettes_there_is_no_ball(photos: PosedPhotos):
    assert object_ball(photos) is None


def test_a_ball_that_holds_a_camera_is_none():
    assert object_ball(_photos(radius=0.9)) is None


def test_pixels_near_the_silhouette_are_found():
    photos = _photos()
    near = near_silhouettes(photos, margin=1 / SIZE).reshape(-1, SIZE, SIZE)
    alpha = photos.pixels[:, 3].reshape(-1, SIZE, SIZE) > 0
    assert near[alpha].all()
    wider = alpha.copy()
    wider[:, 1:] |= alpha[:, :-1]
    wider[:, :-1] |= alpha[:, 1:]
    twice = wider.copy()
    twice[:, :, 1:] |= wider[:, :, :-1]
    twice[:, :, :-1] |= wider[:, :, 1:]
    np.testing.assert_array_equal(near, twice)


def test_the_finest_cells_are_as_large_as_a_pixel():
    settings = object_field(_photos())
    assert settings.bound == 1
    assert settings.finest == 204  # a pixel is 1 / (0.8 * 128) wide at the origin
