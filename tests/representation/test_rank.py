"""RankMe: the laws of an effective rank."""

import pytest
import torch

from nndl_suite.representation.rank import effective_rank


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_equal_singular_values_count_directions(rank):
    basis = torch.linalg.qr(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))[0][:, :rank]
    assert effective_rank(5 * basis @ torch.eye(rank, 8)) == pytest.approx(rank, rel=1e-4)


def test_scale_and_rotation_are_nothing():
    g = torch.Generator().manual_seed(1)
    features = torch.randn(60, 6, generator=g) * torch.arange(1, 7)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=g))[0]
    assert effective_rank(3 * features @ rotation) == pytest.approx(effective_rank(features), rel=1e-4)


def test_the_entropy_of_known_values():
    diagonal = torch.diag(torch.tensor([3.0, 1.0]))  # shares 3/4 and 1/4
    assert effective_rank(diagonal) == pytest.approx(4 / 3**0.75, rel=1e-4)
