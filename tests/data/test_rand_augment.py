import torch
from torchvision.transforms import v2

from nndl_suite.data.rand_augment import rand_augment
from nndl_suite.training.seeds import isolated_rng


def _images(n=40):
    return torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_groups_are_what_torchvision_makes_of_them():
    images = _images()
    ours = rand_augment(images, 5, operations=2, magnitude=12)
    theirs = v2.RandAugment(num_ops=2, magnitude=12)
    with isolated_rng(5):
        expected = [theirs(images[:16]), theirs(images[16:32]), theirs(images[32:])]
    assert torch.equal(ours, torch.cat(expected))


def test_the_seed_decides_and_the_callers_randomness_stays():
    images = _images()
    torch.manual_seed(1)
    first = rand_augment(images, 5, operations=2, magnitude=9)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first, rand_augment(images, 5, operations=2, magnitude=9))
    assert not torch.equal(first, rand_augment(images, 6, operations=2, magnitude=9))
    assert torch.equal(images, _images())
