"""Pictures of errors, depths and normals against scenes whose answer is known."""

import numpy as np

from nndl_suite.nerf.cameras import Camera, pixel_directions
from nndl_suite.nerf.path import look_at
from nndl_suite.nerf.pictures import depth_picture, depth_range, error_picture, normal_picture, surface_normals

DIRECTIONS = pixel_directions(Camera(model="PINHOLE", width=48, height=40, params=(50.0, 50.0, 24.0, 20.0))).astype(
    np.float32
)
SOLID = np.ones(DIRECTIONS.shape[:2])


def luminance(picture: np.ndarray) -> np.ndarray:
    return picture.astype(float) @ [0.2126, 0.7152, 0.0722]


def test_errors_grow_brighter_and_uncounted_pixels_are_grey():
    truth = np.zeros((4, 6, 3), np.uint8)
    rendered = np.broadcast_to(np.arange(6, dtype=np.uint8)[None, :, None] * 12, truth.shape).copy()
    picture = error_picture(rendered, truth, None)
    assert (luminance(picture)[0, 0]) < 3
    assert (np.diff(luminance(picture)[0]) > 0).all()
    np.testing.assert_array_equal(picture, error_picture(truth, rendered, None))
    beyond = error_picture(np.full_like(truth, 255), truth, None)
    np.testing.assert_array_equal(beyond, error_picture(np.full_like(truth, 64), truth, None))
    counted = np.ones(truth.shape[:2], bool)
    counted[2] = False
    assert (error_picture(rendered, truth, counted)[2] == 128).all()


def test_depth_is_coloured_alike_in_every_frame_of_one_range():
    depth = np.full((8, 8), 2.0)
    depth[:, 4:] = 1.0
    opacity = np.ones((8, 8))
    opacity[0] = 0
    span = depth_range([(depth, opacity), (depth * 2, opacity)])
    assert 0.25 <= span[0] < span[1] <= 1
    first, second = depth_picture(depth, opacity, span), depth_picture(depth * 2, opacity, span)
    np.testing.assert_array_equal(first[1, 0], second[1, 4])  # both at depth 2
    assert (first[0] == 0).all()
    assert first[1, 4, 0] > first[1, 4, 2], "near is red"
    assert depth_range([(depth, 0 * opacity)]) == (0.0, 1.0)


def test_normals_of_a_plane():
    normal = np.array([0.3, -0.4, -0.86])
    normal /= np.linalg.norm(normal)
    depth = -2.0 / (DIRECTIONS @ normal)  # of the plane normal . x = -2
    found = surface_normals(depth, SOLID > 0, DIRECTIONS)
    np.testing.assert_allclose(found, np.broadcast_to(normal, found.shape), atol=1e-4)


def test_a_floor_is_blue_from_wherever_it_is_seen():
    for place in ([2.0, 0.0, 2.0], [0.0, -1.5, 2.0]):
        pose = look_at(np.array([place]))[0]
        depth = -place[2] / (DIRECTIONS @ pose[:, :3].T)[..., 2]  # of the floor z = 0
        picture = normal_picture(depth, SOLID, DIRECTIONS, pose)
        assert np.abs(picture.astype(int) - [128, 128, 255]).max() <= 3


def test_normals_face_the_camera_and_stop_where_the_surface_does():
    opacity = SOLID.copy()
    opacity[:, :10] = 0
    pose = np.eye(3, 4)
    picture = normal_picture(3 / DIRECTIONS[..., 2], opacity, DIRECTIONS, pose)
    assert (picture[:, :10] == 0).all()
    assert np.abs(picture[:, 20:].astype(int) - [128, 128, 0]).max() <= 3
