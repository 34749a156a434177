"""Live pictures: coarse first, sharper at rest, newest camera first, one at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nndl_suite.nerf.cameras import Camera, pixel_directions
from nndl_suite.nerf.field import FieldSettings, new_field
from nndl_suite.nerf.kernels.composite import composite
from nndl_suite.nerf.kernels.hash_grid import encode
from nndl_suite.nerf.kernels.marching import march
from nndl_suite.nerf.kernels.tiles import shade
from nndl_suite.nerf.live import Detail, LiveView, Look, Picture, look_directions, stage_size
from nndl_suite.nerf.rendering import Rendering, render_view

POSE = np.concatenate([np.eye(3), np.array([[1.0], [2.0], [3.0]])], axis=1)
LOOK = Look(field_from_camera=POSE, fov_rad=0.8, aspect=1.5)
AWAY = Look(field_from_camera=POSE + 1.0, fov_rad=0.8, aspect=1.5)


def flat(directions: np.ndarray, pose: np.ndarray, samples: int) -> Rendering:
    """A wall at depth 2 along the axis; its colour says where the camera is."""
    shape = directions.shape[:2]
    rgb = np.full((*shape, 3), pose[0, 3] / 10, np.float32)
    return Rendering(rgb, 2 / directions[..., 2], np.ones(shape, np.float32))


class Pages:
    """What pages got."""

    def __init__(self) -> None:
        self.got: list[tuple[int, Picture]] = []

    def __call__(self, page: int, picture: Picture) -> None:
        self.got.append((page, picture))

    @property
    def stages(self) -> list[tuple[int, int]]:
        return [(page, picture.stage) for page, picture in self.got]


def test_directions_are_those_of_the_pinhole_camera():
    focal = 30 / np.tan(0.4)
    camera = Camera(model="PINHOLE", width=90, height=60, params=(focal, focal, 45.0, 30.0))
    np.testing.assert_allclose(look_directions(LOOK, (60, 90)), pixel_directions(camera), atol=1e-6)


def test_sizes_grow_to_the_longest_side_and_keep_the_shape():
    assert [stage_size(LOOK, 600, stage) for stage in range(3)] == [(80, 120), (200, 300), (400, 600)]
    assert stage_size(Look(field_from_camera=POSE, fov_rad=1, aspect=0.5), 600, 2) == (600, 300)
    assert stage_size(LOOK, 24, 0)[1] == 24


def test_a_camera_at_rest_is_seen_ever_sharper_then_left_alone():
    pages = Pages()
    live = LiveView(flat, pages, Detail(longest=300))
    assert not live.step()
    live.look(7, LOOK)
    while live.step():
        pass
    live.look(7, LOOK)  # a page that says the same again need not wait again
    assert not live.step()
    assert pages.stages == [(7, 0), (7, 1), (7, 2)]
    assert [picture.last for _, picture in pages.got] == [False, False, True]
    assert pages.got[-1][1].rgb.shape == (200, 300, 3)
    np.testing.assert_allclose(pages.got[-1][1].depth, 2, rtol=1e-5)
    assert (pages.got[-1][1].rgb == 26).all()  # 0.1 of 255


def test_a_picture_is_given_up_when_the_camera_moves_but_never_the_coarsest():
    pages, calls = Pages(), []

    def moves(directions: np.ndarray, pose: np.ndarray, samples: int) -> Rendering:
        calls.append(directions.shape)
        if len(calls) in {1, 3}:  # during the coarsest picture, and during the second one of the new camera
            live.look(0, AWAY if len(calls) == 1 else LOOK)
        return flat(directions, pose, samples)

    live = LiveView(moves, pages, Detail(longest=500))
    live.look(0, LOOK)
    live.step()
    assert pages.stages == [(0, 0)]  # late, but shown: a moving camera would else see nothing
    live.step()
    live.step()
    assert pages.stages == [(0, 0), (0, 0)]
    while live.step():
        pass
    assert pages.stages == [(0, 0), (0, 0), (0, 0), (0, 1), (0, 2)]


def test_pages_share_and_a_new_one_is_served_before_others_are_sharpened():
    pages = Pages()
    live = LiveView(flat, pages, Detail(longest=300))
    live.look(0, LOOK)
    live.step()
    live.look(1, AWAY)
    while live.step():
        pass
    assert pages.stages == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert pages.got[1][1].rgb[0, 0, 0] == 51  # its own camera


def test_a_page_that_left_gets_nothing_more_and_a_new_detail_starts_over():
    pages = Pages()
    live = LiveView(flat, pages, Detail(longest=300))
    live.look(0, LOOK)
    live.look(1, LOOK)
    live.forget(0)
    while live.step():
        pass
    assert {page for page, _ in pages.got} == {1}
    live.set_detail(Detail(longest=60, samples=16))
    while live.step():
        pass
    assert pages.got[-1][1].rgb.shape == (40, 60, 3)


@pytest.mark.parametrize("looked", [False, True])
def test_it_stops_when_told(looked: bool):
    pages = Pages()
    live = LiveView(flat, pages, Detail(longest=60))
    thread = threading.Thread(target=live.run)
    thread.start()
    if looked:
        live.look(0, LOOK)
    live.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_other_threads_go_on_while_a_picture_is_rendered_and_may_render_too():
    assert all(kernel.targetoptions["nogil"] for kernel in (march, encode, shade, composite))
    field = new_field(FieldSettings(log2_rows=10, finest=64), seed=0)
    look = Look(field_from_camera=np.eye(4)[:3], fov_rad=1.0, aspect=1.5)
    directions = look_directions(look, (96, 144))
    pose = np.eye(4)[:3].astype(np.float32)
    alone = render_view(field, directions, pose)
    with ThreadPoolExecutor(max_workers=4) as pool:
        seen = list(pool.map(lambda _: render_view(field, directions, pose), range(8)))
        asked = pool.submit(field.query, np.zeros((100, 3), np.float32), directions.reshape(-1, 3)[:100])
    for one in seen:
        np.testing.assert_array_equal(one.rgb, alone.rgb)
    assert np.isfinite(asked.result()[0]).all()
