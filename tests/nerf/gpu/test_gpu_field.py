"""Pictures and answers of a field on a device are those of the CPU's."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from gpu_scene import BALL, OPEN, cut_out, demo_photos

from nndl_suite.nerf.evaluation import evaluate
from nndl_suite.nerf.field import Field
from nndl_suite.nerf.gpu.field import place_field
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.rendering import render_view
from nndl_suite.nerf.trainer import FieldTrainer

KINDS = ("open", "ball")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PosedPhotos:
    return demo_photos(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def fields(photos: PosedPhotos) -> dict[str, Field]:
    """Fields that know a little, so that rays have something to stop at."""
    trainers = {"open": FieldTrainer(photos, OPEN), "ball": FieldTrainer(cut_out(photos), BALL)}
    for trainer in trainers.values():
        for index in range(60):
            trainer.step(index, 0.2)
    return {name: trainer.field for name, trainer in trainers.items()}


def _directions(photos: PosedPhotos, every: int) -> np.ndarray:
    return photos.directions[: 36 * 48].reshape(36, 48, 3)[::every, ::every]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_picture_is_the_cpus(photos: PosedPhotos, fields: dict[str, Field], kind: str, device: str):
    field, pose = fields[kind], photos.field_from_camera[1]
    directions = _directions(photos, 12 if INTERPRETED else 1)
    expected = render_view(field, directions, pose, samples=24)
    found = render_view(place_field(field, torch.device(device)), directions, pose, samples=24)
    loose = INTERPRETED or device == "cuda"
    limit = 1e-2 if loose else 1e-3
    for ours, theirs in ((found.rgb, expected.rgb), (found.opacity, expected.opacity)):
        # a ray about as thin as nothing is asked for here, and not there
        assert (np.abs(ours - theirs) < limit).mean() > 0.995
        np.testing.assert_allclose(ours, theirs, atol=5 * limit)
    # where about half of the light is stopped, a little more or less is another place
    assert (np.abs(found.depth - expected.depth) < 1e-2 * expected.depth).mean() > 0.95
    assert expected.rgb.std() > 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", DEVICES)
def test_points_are_answered_as_on_the_cpu(fields: dict[str, Field], kind: str, device: str):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 3)).astype(np.float32)
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    density, rgb = fields[kind].query(points, directions)
    ours, colours = place_field(fields[kind], torch.device(device)).query(points, directions)
    loose = INTERPRETED or device == "cuda"
    np.testing.assert_allclose(ours, density, rtol=3e-2 if loose else 1e-4, atol=1e-5)
    np.testing.assert_allclose(colours, rgb, atol=1e-2 if loose else 1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_ball_out_of_sight_shows_the_background(photos: PosedPhotos, fields: dict[str, Field], device: str):
    away = replace(fields["ball"], grid=np.zeros_like(fields["ball"].grid))
    seen = render_view(place_field(away, torch.device(device)), _directions(photos, 6), photos.field_from_camera[0])
    assert (seen.rgb == 1).all()
    assert not seen.opacity.any()


@pytest.mark.skipif(INTERPRETED, reason="minutes by Triton's interpreter")
@pytest.mark.parametrize("device", DEVICES)
def test_scores_are_the_cpus(photos: PosedPhotos, fields: dict[str, Field], device: str):
    two = replace(
        photos, names=photos.names[:2], sizes=photos.sizes[:2], field_from_camera=photos.field_from_camera[:2]
    )
    expected, found = evaluate(fields["open"], two), evaluate(place_field(fields["open"], torch.device(device)), two)
    assert found.psnr == pytest.approx(expected.psnr, abs=0.05)
