import numpy as np
import pytest
import torch

from nndl_suite.data.erasing import erase


def test_rectangles_of_the_papers_sizes():
    images = torch.zeros(4000, 1, 48, 48, dtype=torch.uint8)
    erased = erase(images, torch.Generator().manual_seed(0), probability=1.0)
    assert not images.any()
    changed = (erased != 0).any(dim=1)  # noise is 0 in one of 256 pixels
    rows, columns = changed.any(dim=2), changed.any(dim=1)
    height, width = rows.sum(dim=1).float(), columns.sum(dim=1).float()
    assert changed.float().sum(dim=(1, 2)) == pytest.approx((height * width).numpy(), rel=0.15, abs=4)  # all filled
    area = (height * width / 48**2).numpy()
    assert area.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
    assert area.min() > 0.01
    assert area.max() < 0.37
    aspect = np.log((height / width).numpy())
    assert aspect.mean() == pytest.approx(0, abs=0.05)
    assert np.abs(aspect).max() < np.log(1 / 0.3) + 0.35  # sides are whole pixels


def test_the_chance():
    images = torch.full((3000, 3, 16, 16), 128, dtype=torch.uint8)
    erased = erase(images, torch.Generator().manual_seed(1), probability=0.25)
    share = (erased != images).flatten(1).any(dim=1).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.03)
    assert torch.equal(erase(images, torch.Generator(), probability=0.0), images)


def test_the_generator_decides():
    images = torch.zeros(8, 3, 16, 16, dtype=torch.uint8)
    first, again, other = (erase(images, torch.Generator().manual_seed(s), probability=0.5) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
