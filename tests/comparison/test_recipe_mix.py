import numpy as np
import pytest
import torch

from nndl_suite.comparison.cutmix import CutMix
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.recipe_mix import mix_of, uncorrected_cutmix


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _batch(n=8, size=16):
    """Image i is painted i, so that pixels tell whose they are."""
    return torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, size, size).clone(), torch.arange(n)


def test_cutmix_alone_is_cutmix():
    images, labels = _batch()
    recipe = Recipe(cutmix_alpha=0.7, cutmix_probability=0.6, cutmix_variant="timm")
    for seed in range(10):
        ours = mix_of(recipe, 8, _generator(seed))(images, labels)
        theirs = CutMix(alpha=0.7, probability=0.6, variant="timm", num_classes=8, generator=_generator(seed))
        for a, b in zip(ours, theirs(images, labels), strict=True):
            assert torch.equal(a, b)


def test_both_by_their_chances():
    images, labels = _batch()
    mix = mix_of(Recipe(cutmix_probability=0.5, mixup_probability=0.2), 8, _generator())
    kinds = []
    for _ in range(1500):
        mixed, targets = mix(images, labels)
        assert mixed.dtype == torch.float32
        assert mixed.max() <= 7 / 255 + 1e-6
        blended = ((mixed * 255) % 1).gt(1e-3).logical_and(((mixed * 255) % 1).lt(1 - 1e-3)).any()
        cut = (mixed != mixed[:, :1, :1, :1]).any()
        kinds.append("mixup" if blended else "cutmix" if cut else "none")
        assert targets.sum(dim=1) == pytest.approx(np.ones(8), abs=1e-5)
    shares = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    # A few of each change nothing: an empty box, a λ of nearly 1.
    assert shares["cutmix"] == pytest.approx(0.5, abs=0.06)
    assert shares["mixup"] == pytest.approx(0.2, abs=0.05)


def test_no_mix_at_all():
    images, labels = _batch()
    mixed, targets = mix_of(Recipe(cutmix_probability=0.0), 8, _generator())(images, labels)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.eye(8))


def test_the_course_projects_labels_say_half_where_pixels_say_less():
    images, labels = _batch()
    recipe = Recipe(cutmix_probability=1.0, cutmix_variant="uncorrected")
    generator, said, seen = _generator(), [], []
    for _ in range(2000):
        mixed, targets = uncorrected_cutmix(images, labels, recipe, 8, generator)
        assert targets.sum(dim=1) == pytest.approx(np.ones(8), abs=1e-5)
        said.append(1 - targets[0, 0].item())
        seen.append((mixed[0, 0] != 0).float().mean().item())
    # A permutation leaves an image with itself once in eight: the shares below are of the other seven.
    assert np.mean(said) == pytest.approx(0.5 * 7 / 8, abs=0.03)
    assert np.mean(seen) == pytest.approx(0.3 * 7 / 8, abs=0.03)
    whole = mix_of(recipe, 8, _generator(3))(images, labels)
    assert all(map(torch.equal, whole, uncorrected_cutmix(images, labels, recipe, 8, _generator(3))))


def test_the_course_projects_boxes_are_the_papers():
    """Where no side is clipped, labels and pixels agree but for the rounding of the sides."""
    images, labels = _batch(n=2, size=64)
    recipe, generator = Recipe(cutmix_probability=1.0, cutmix_variant="uncorrected"), _generator()
    inside = 0
    for _ in range(400):
        mixed, targets = uncorrected_cutmix(images, labels, recipe, 2, generator)
        foreign = mixed[0, 0] == 1
        if not foreign.any() or foreign[0].any() or foreign[-1].any() or foreign[:, 0].any() or foreign[:, -1].any():
            continue
        inside += 1
        lost = targets[0, 1].item() - foreign.float().mean().item()
        assert -1e-5 <= lost <= 4 * foreign.any(dim=0).sum() / 64**2 + 4 / 64**2  # sides are cut to even numbers
    assert inside > 20
