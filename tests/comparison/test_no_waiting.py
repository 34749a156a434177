"""A step never waits for its device: checked on torch's "meta" device, whose tensors have shapes and no values.

Whatever of the step's own Python depends on a value that lies on the device is found: asking for it raises. Copies are
noted in both directions: one to the host must wait for the value, and one to the device waits for all work before it
unless it is `non_blocking` (CUDA copies, then synchronises the stream). What this does not show: waits inside a kernel
or an allocator, those of a non-blocking copy of more than 64 KiB from memory that is not pinned, and those of Fabric's
wrapper and of PyTorch's fused optimisers, which are not in the play.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nndl_suite.comparison.architectures import resolve_arms
from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.splits import Splits
from nndl_suite.data.batches import in_order
from nndl_suite.data.image_set import ImageSet, ResidentImages
from nndl_suite.models.normalisation import IMAGENET

_DEVICE = torch.device("meta")
_ASKING = {  # operations whose answer, or whose shape, the host must know
    "aten._local_scalar_dense",
    "aten.equal",
    "aten.is_nonzero",
    "aten.masked_select",
    "aten.nonzero",
    "aten.repeat_interleave",
    "aten._unique2",
}


def _there(value):
    return isinstance(value, torch.Tensor) and value.device == _DEVICE


class Operations(TorchDispatchMode):
    """Counts operations on the device, and notes those for which the host would wait."""

    def __init__(self, seen):
        super().__init__()
        self.seen, self.count = seen, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        wait = _wait(str(func.overloadpacket), args, kwargs)
        self.count += any(map(_there, tree_leaves(args)))
        self.seen += [wait] if wait else []
        return func(*args, **kwargs)


def _wait(name, args, kwargs):
    """Why the host would wait for this operation; empty if it would not."""
    if name == "aten._to_copy":
        goes_there = torch.device(kwargs.get("device") or args[0].device) == _DEVICE
        return _copy(_there(args[0]), goes_there, non_blocking=kwargs.get("non_blocking"))
    if name == "aten.copy_":
        return _copy(_there(args[1]), _there(args[0]), non_blocking=kwargs.get("non_blocking") or args[2:3] == (True,))
    if not any(map(_there, tree_leaves(args))):
        return ""
    if name in ("aten.index", "aten.index_put_", "aten.index_put"):
        indices = [index for index in args[1] if index is not None]
        if any(index.dtype == torch.bool for index in indices):
            return "index by a mask"
        return "" if all(map(_there, indices)) else "index from the host"
    return name if name in _ASKING else ""


def _copy(from_there, to_there, *, non_blocking):
    if from_there == to_there:
        return ""
    if from_there:  # also where it is non_blocking: what is read then may not have come yet
        return "copy to the host"
    return "" if non_blocking else "blocking copy to the device"


class Made(TorchFunctionMode):
    """Notes tensors that are made of Python's numbers for the device, which hides a copy from the mode above."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        value = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and _there(value) and not any(map(_there, args)):
            self.seen.append("tensor of numbers on the device")
        return value


@contextmanager
def waits() -> Iterator[Operations]:
    """What of the code inside would wait for the device."""
    seen: list[str] = []
    with Made(seen), Operations(seen) as operations:
        yield operations


def _images(n=40, size=16, classes=4):
    pixels, labels = torch.zeros(n, 3, size, size, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64)
    names = tuple("abcdefgh"[:classes])
    return ImageSet(name="none", store=ResidentImages(pixels), labels=labels, class_names=names, fingerprint="")


def _training(arm, recipe):
    def setup(network, optimiser):
        return network, optimiser

    fabric = SimpleNamespace(device=_DEVICE, setup=setup, backward=torch.Tensor.backward)
    images = _images()
    splits = Splits(train=images, val=images, test=images, normalisation=IMAGENET)
    return ArmTraining(arm, recipe.rates, recipe, splits, seed=0, fabric=fabric)


# others ask whether autocast is on for their device, which "meta" has no answer to
_ARMS = {arm.name: arm for arm in resolve_arms("resnet20", "course-vit", num_classes=4, image_size=16)}
_RECIPES = {
    "default": Recipe(batch_size=8),
    "sgd, MixUp, erasing, sizes": Recipe(
        batch_size=8,
        optimiser="sgd",
        mixup_probability=0.5,
        erasing_probability=0.5,
        resolutions=((0.0, 12), (0.7, 16)),
    ),
    "muon, the course project's CutMix": Recipe(batch_size=8, optimiser="muon", cutmix_variant="uncorrected"),
}


@pytest.mark.parametrize(
    ("name", "recipe"), [("resnet20", recipe) for recipe in _RECIPES] + [("course-vit", "default")]
)
def test_a_step_does_not_wait(name, recipe):
    training = _training(_ARMS[name], _RECIPES[recipe])
    with waits() as found:
        for index in range(3):
            figures = training.step(index, 0.5)
    assert found.count > 300, "the steps were not on the device"
    assert found.seen == []
    assert figures["loss"].device == _DEVICE  # the loop asks for it every 20 steps
    with waits() as found, pytest.raises((RuntimeError, NotImplementedError)):
        float(figures["loss"])
    assert found.seen


def test_batches_in_order_do_not_wait():
    with waits() as found:
        batches = [batch.images for batch in in_order(_images(), batch_size=16, device=_DEVICE)]
    assert [len(images) for images in batches] == [16, 16, 8]
    assert all(map(_there, batches))
    assert found.seen == []


_HERE, _LOGITS = torch.zeros(4, dtype=torch.int64), torch.zeros(4, 3, device=_DEVICE)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: _LOGITS[_LOGITS > 0],
        lambda: _LOGITS.cpu(),
        lambda: _LOGITS.to("cpu", non_blocking=True),
        lambda: bool(_LOGITS.any()),
        lambda: _LOGITS.nonzero(),
        lambda: torch.zeros(4, 3).copy_(_LOGITS),
    ],
)
def test_asking_the_device_is_seen(ask):
    with waits() as found, pytest.raises((RuntimeError, NotImplementedError)):
        ask()
    assert len(found.seen) == 1


@pytest.mark.parametrize(
    "tell",
    [
        lambda: _HERE.to(_DEVICE),
        lambda: torch.empty(4, dtype=torch.int64, device=_DEVICE).copy_(_HERE),
        lambda: torch.tensor((0.5, 0.25), device=_DEVICE),
        lambda: torch.as_tensor([1, 2], device=_DEVICE),
        lambda: _LOGITS[_HERE],
    ],
)
def test_a_blocking_copy_to_the_device_is_seen(tell):
    with waits() as found:
        tell()
    assert len(found.seen) == 1


def test_a_copy_that_nobody_waits_for_is_none():
    with waits() as found:
        _HERE.to(_DEVICE, non_blocking=True)
        torch.empty(4, dtype=torch.int64, device=_DEVICE).copy_(_HERE, non_blocking=True)
        _LOGITS.to(torch.float64).to(_DEVICE)
    assert found.seen == []
