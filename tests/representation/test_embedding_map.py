import numpy as np
import pytest
import torch

from nndl_suite.representation.embedding_map import evenly_spread, principal_plane


def test_against_the_eigenvectors_of_the_covariance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 3
    found = principal_plane(torch.from_numpy(x))
    z = (x - x.mean(0)) / x.std(0)
    values, vectors = np.linalg.eigh(z.T @ z)
    np.testing.assert_allclose(found.explained, values[::-1][:2] / values.sum())
    for axis in range(2):
        expected = z @ vectors[:, -1 - axis]
        xy = found.xy[:, axis].numpy()
        assert min(np.abs(xy - expected).max(), np.abs(xy + expected).max()) < 1e-9


def test_the_plane_of_planar_points_keeps_their_distances():
    angle = torch.linspace(0, 6, 50, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    circle = (circle - circle.mean(0)) / circle.std(0, correction=0)
    features = torch.cat([circle, torch.zeros(50, 3, dtype=torch.float64)], dim=1)  # three dead units
    found = principal_plane(features)
    torch.testing.assert_close(torch.cdist(found.xy, found.xy), torch.cdist(circle, circle), atol=1e-6, rtol=0)
    assert sum(found.explained) > 1 - 1e-12


def test_axes_have_one_direction_and_nothing_is_drawn():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    first = principal_plane(x)
    assert torch.equal(torch.get_rng_state(), before)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(principal_plane(x[order]).xy, first.xy[order])


@pytest.mark.parametrize("shape", [(1, 5), (7, 1), (1, 1)])
def test_a_lone_image_or_a_lone_feature_has_a_plane_too(shape):
    found = principal_plane(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert found.xy.shape == (shape[0], 2)
    assert found.xy.isfinite().all()


def test_places_are_spread_evenly():
    assert evenly_spread(3).tolist() == [0, 1, 2]
    assert evenly_spread(0).tolist() == []
    many = evenly_spread(10_000)
    assert len(many) == 1000
    assert many.tolist() == list(range(0, 10_000, 10))
