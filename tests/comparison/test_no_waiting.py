"""A step never waits for its device: checked on torch's "meta" device, whose tensors have shapes and no values.

Whatever of the step's own Python depends on a value that lies on the device is found: asking for it raises, and a copy
to the host is noted. What this does not show: waits inside a kernel or an allocator, and those of Fabric's wrapper and
of PyTorch's fused optimisers, which are not in the play.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nndl_suite.comparison.architectures import resolve_arms
from nndl_suite.comparison.arm import ArmTraining, Splits
from nndl_suite.comparison.recipe import Recipe
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


class Waits(TorchDispatchMode):
    """Notes each operation for which the host would wait for the device."""

    def __init__(self):
        super().__init__()
        self.seen, self.operations = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = str(func.overloadpacket)
        tensors = [value for value in torch.utils._pytree.tree_leaves(args) if isinstance(value, torch.Tensor)]
        there = any(tensor.device == _DEVICE for tensor in tensors)
        self.operations += there
        if there and name in _ASKING:
            self.seen.append(name)
        elif there and name == "aten.index" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self.seen.append("aten.index by a mask")
        elif there and name == "aten._to_copy" and torch.device(kwargs.get("device") or _DEVICE) != _DEVICE:
            self.seen.append("copy to the host")
        elif name == "aten.copy_" and tensors[0].device != _DEVICE and tensors[1].device == _DEVICE:
            self.seen.append("copy into the host's")
        return func(*args, **kwargs)


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
    with Waits() as waits:
        for index in range(3):
            figures = training.step(index, 0.5)
    assert waits.operations > 300, "the steps were not on the device"
    assert waits.seen == []
    assert figures["loss"].device == _DEVICE  # the loop asks for it every 20 steps
    with Waits() as waits, pytest.raises((RuntimeError, NotImplementedError)):
        float(figures["loss"])
    assert waits.seen


def test_what_would_wait_is_seen():
    logits = torch.zeros(4, 3, device=_DEVICE)
    for ask in (lambda: logits[logits > 0], lambda: logits.cpu(), lambda: bool(logits.any()), lambda: logits.nonzero()):
        with Waits() as waits, pytest.raises((RuntimeError, NotImplementedError)):
            ask()
        assert len(waits.seen) == 1
