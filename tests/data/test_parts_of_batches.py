"""What each of several processes has of a batch is the rows that one process would have there."""

from dataclasses import dataclass, field

import pytest
import torch

from nndl_suite.data import batches
from nndl_suite.data.augmentation import crop_and_flip
from nndl_suite.data.batches import Batches, own_in_order
from nndl_suite.data.erasing import erase
from nndl_suite.data.image_set import ImageSet, ResidentImages
from nndl_suite.data.rand_augment import rand_augment
from nndl_suite.training.processes import Part

PARTS = (Part(0, 20, 60), Part(20, 40, 60), Part(40, 60, 60))


def _pixels(n: int = 60) -> torch.Tensor:
    return torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@dataclass
class _Counted:
    """Images somewhere else, and which of them were read."""

    pixels: torch.Tensor
    reads: list[int] = field(default_factory=list)
    image_size = 8

    def __len__(self):
        return len(self.pixels)

    def read(self, indices):
        self.reads += indices.tolist()
        return self.pixels[indices]

    def select(self, indices):
        return _Counted(self.pixels[indices])


def _set(store) -> ImageSet:
    return ImageSet(
        name="made", store=store, labels=torch.arange(len(store)) % 3, class_names=("a", "b", "c"), fingerprint=""
    )


@pytest.mark.parametrize("kind", [ResidentImages, _Counted])
def test_parts_of_every_batch_are_the_batch(kind):
    n, size = 31, 12  # the last 7 images of an epoch make no batch
    whole = Batches(_set(ResidentImages(_pixels(n))), batch_size=size, seed=3)
    stores = [kind(_pixels(n)) for _ in range(3)]
    parts = [
        Batches(_set(store), batch_size=size, seed=3, workers=0, part=Part(4 * i, 4 * i + 4, size))
        for i, store in enumerate(stores)
    ]
    for step in (0, 1, 2, 3, 5, 4):
        found, expected = [part.at(step) for part in parts], whole.at(step)
        assert torch.equal(torch.cat([batch.images for batch in found]), expected.images)
        assert torch.equal(torch.cat([batch.labels for batch in found]), expected.labels)
        assert torch.equal(torch.cat([batch.indices for batch in found]), expected.indices)
    if kind is _Counted:
        first = whole.at(0).indices[:4].tolist()
        assert stores[0].reads[:4] == first
        assert len(stores[0].reads) == 4 * 6  # nothing that another process reads


def test_batches_in_turn_are_every_image_once(monkeypatch):
    images = _set(ResidentImages(_pixels(23)))
    monkeypatch.setattr(batches, "world_size", lambda: 3)
    seen = []
    for own in range(3):
        monkeypatch.setattr(batches, "rank", lambda own=own: own)
        seen += [batch.indices for batch in own_in_order(images, batch_size=5)]
    assert sorted(torch.cat(seen).tolist()) == list(range(23))


@pytest.mark.parametrize(
    "change",
    [
        lambda images, part: crop_and_flip(images, _generator(), padding=2, flip=True, part=part),
        lambda images, part: erase(images, _generator(), probability=0.7, part=part),
        lambda images, part: rand_augment(images, 5, operations=2, magnitude=12, part=part),
    ],
    ids=["crop and flip", "erase", "RandAugment"],
)
def test_parts_are_augmented_as_in_the_batch(change):
    images = _pixels()
    assert torch.equal(torch.cat([change(images[part.rows], part) for part in PARTS]), change(images, None))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)
