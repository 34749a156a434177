from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nndl_suite.comparison.architectures import Architecture, check_sizes, resolve_arms
from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.splits import Splits
from nndl_suite.comparison.training_images import augment, resized
from nndl_suite.comparison.vit import vit_of_kind
from nndl_suite.comparison.whitened_cnn import WhitenedCNN
from nndl_suite.data.erasing import erase
from nndl_suite.data.image_set import ImageSet, ResidentImages
from nndl_suite.data.rand_augment import rand_augment
from nndl_suite.errors import ConfigError
from nndl_suite.models.normalisation import Normalisation
from nndl_suite.training.checkpoints import Checkpoint, equal_states, load_newest, save_checkpoint
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.predictions import read_predictions
from nndl_suite.training.runs import RunFolder

_NORMALISATION = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
_PLAIN = Recipe(batch_size=8, rates=Rates(rate=1e-2, decay=0.01), warmup=0.0)


class _Tiny(nn.Module):
    """One layer, and a memory of the sizes that came in."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)
        self.sizes = []

    def forward(self, images):
        self.sizes.append(images.shape[-1])
        return self.head(self.norm(images).square().mean(dim=(2, 3)))


def _arm(build):
    return Architecture(name="tiny", shape="tiny", parameters=1, flops=1, build=build)


def _set(n=32, size=16, seed=0):
    pixels = torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    labels, names = torch.arange(n) % 4, tuple("abcd")
    return ImageSet(name="made", store=ResidentImages(pixels), labels=labels, class_names=names, fingerprint="made")


def _shades():
    """Noise that is the brighter the higher the label: something to learn."""
    noise = _set()
    pixels = noise.store.read(torch.arange(32)) // 4 + (48 * noise.labels)[:, None, None, None].to(torch.uint8)
    return replace(noise, store=ResidentImages(pixels))


def _training(recipe, build=_Tiny):
    splits = Splits(train=_set(), val=_set(seed=1), test=_set(seed=2), normalisation=_NORMALISATION)
    fabric = make_fabric("cpu", "32-true")
    return ArmTraining(_arm(build), recipe.rates, recipe, splits, seed=0, fabric=fabric)


def _weights(training):
    return {name: value.clone() for name, value in training.network.state_dict().items()}


def test_images_are_resized_as_the_run_goes_on():
    recipe = replace(_PLAIN, resolutions=((0.0, 8), (0.5, 12), (0.75, 16)))
    training = _training(recipe)
    sizes = training.network.module.sizes
    sizes.clear()
    for index, fraction in enumerate((0.0, 0.49, 0.5, 0.74, 0.75, 0.99)):
        training.step(index, fraction)
    training.score(_set())
    assert sizes == [8, 8, 12, 12, 16, 16] + [16] * 4


def test_shrinking_takes_the_mean_of_what_it_covers():
    images = torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8).float()
    inner = resized(images, 4)[:, :, 1:-1, 1:-1]  # at the border the triangle is cut
    assert inner == pytest.approx(F.avg_pool2d(images, 2)[:, :, 1:-1, 1:-1].numpy(), abs=1e-3)
    assert resized(images, None) is resized(images, 8) is images


def test_augmentations_follow_one_another():
    images = _set().store.read(torch.arange(32))
    recipe = Recipe(
        crop_padding=0, flip=False, randaugment_operations=2, randaugment_magnitude=5, erasing_probability=0.5
    )
    done = augment(images, recipe, torch.Generator().manual_seed(3), seed=4)
    generator = torch.Generator().manual_seed(3)
    augment(images, replace(recipe, randaugment_operations=0, erasing_probability=0.0), generator, seed=4)
    expected = erase(rand_augment(images, 4, operations=2, magnitude=5), generator, probability=0.5)
    assert torch.equal(done, expected)


def test_the_mean_of_weights_is_what_is_scored():
    decay = 0.7
    training = _training(replace(_PLAIN, ema_decay=decay))
    mean = None
    for index in range(6):
        training.step(index, index / 10)
        now = _weights(training)
        # timm's warm-up of the decay: 1 - k^(-2/3), and the first two steps are taken as they are
        kept = 0.0 if index == 0 else min(decay, 1 - (1 + index) ** (-2 / 3))
        mean = (
            now
            if mean is None
            else {
                key: kept * mean[key] + (1 - kept) * now[key] if now[key].is_floating_point() else now[key]
                for key in now
            }
        )
    copy = _Tiny().eval()
    copy.load_state_dict(mean)
    images = _set(seed=5)
    logits = copy(_NORMALISATION(images.store.read(torch.arange(32))))
    accuracy, loss = training.score(images)
    assert loss == pytest.approx(F.cross_entropy(logits, images.required_labels()).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(dim=1) == images.labels).float().mean().item())
    last = _training(_PLAIN)
    last.load_state({"network": training.state()["network"], "optimiser": last.state()["optimiser"]})
    assert last.score(images)[1] != pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("norm", [1e-3, 1e3])
def test_gradients_are_clipped_together(norm):
    """By SGD without momentum's past, the first step is the rate times the gradient."""
    recipe = replace(
        _PLAIN, optimiser="sgd", rates=Rates(rate=1.0, decay=0.0), schedule="constant", cutmix_probability=0.0
    )
    steps = []
    for clip in (None, norm):
        training = _training(replace(recipe, clip_norm=clip))
        before = [p.detach().clone() for p in training.network.parameters()]
        training.step(0, 0.0)
        moved = torch.cat([(a - b).flatten() for a, b in zip(before, training.network.parameters(), strict=True)])
        steps.append(moved.detach() / 1.9)  # Nesterov's first step: 1 + momentum
    whole = steps[0].norm().item()
    assert steps[1].norm().item() == pytest.approx(min(whole, norm), rel=1e-3)
    assert F.cosine_similarity(*steps, dim=0).item() == pytest.approx(1, abs=1e-4)


_EVERYTHING = replace(
    _PLAIN,
    optimiser="muon",
    schedule="linear",
    clip_norm=1.0,
    ema_decay=0.9,
    randaugment_operations=1,
    erasing_probability=0.3,
    mixup_probability=0.4,
    resolutions=((0.0, 16), (0.5, 20)),
)


@pytest.mark.parametrize("optimiser", ["muon", "adam", "sgd", "adamw"])
def test_a_run_goes_on_to_the_same_bits_with_every_option(tmp_path, optimiser):
    recipe = replace(_EVERYTHING, optimiser=optimiser)
    whole = _training(recipe, lambda: WhitenedCNN(4))
    cut = _training(recipe, lambda: WhitenedCNN(4))
    for index in range(4):
        whole.step(index, index / 4)
    for index in range(2):
        cut.step(index, index / 4)
    save_checkpoint(tmp_path, Checkpoint(step=2, seconds=1.0, state=cut.state()))
    torch.manual_seed(99)
    resumed = _training(recipe, lambda: WhitenedCNN(4))
    resumed.load_state(load_newest(tmp_path).state)
    for index in range(2, 4):
        resumed.step(index, index / 4)
    assert equal_states(whole.state(), resumed.state())
    assert whole.score(_set()) == resumed.score(_set())
    assert not equal_states(whole.state(), cut.state())


def test_a_transformer_learns_from_smaller_images_too():
    shape = vit_of_kind("vit", num_classes=4, image_size=32)(width=32, depth=1, head_dim=16, mlp_width=32)
    recipe = replace(_PLAIN, resolutions=((0.0, 20), (0.5, 32)))
    training = _training(recipe, shape.build)
    assert training.step(0, 0.0)["loss"].isfinite()


def test_a_network_that_cannot_take_a_size_says_so():
    cnn, vit = resolve_arms("resnet20", "vit-spt-lsa", num_classes=4, image_size=16)
    check_sizes(cnn, ((0.0, 8), (0.5, 16)))
    check_sizes(vit, ())
    with pytest.raises(
        ConfigError, match=r"vit-spt-lsa cannot be trained on images of 8 px, .*resolutions.*leave that"
    ):
        check_sizes(vit, ((0.0, 8), (0.5, 16)))


def test_mirrored_tests_are_of_the_mean_logits_and_validation_is_not(tmp_path):
    training = _training(replace(_PLAIN, test_mirrored=True))
    wide, images = nn.Linear(3 * 16 * 16, 4), _set(seed=2).store.read(torch.arange(32))
    training.network.module.forward = lambda pixels: wide(pixels.flatten(1))  # sees which side is which
    splits = Splits(train=_set(), val=_set(seed=1), test=_set(seed=2), normalisation=_NORMALISATION)
    normal, labels = _NORMALISATION(images), _set().labels
    with torch.no_grad():
        plain, mirrored = wide(normal.flatten(1)), wide(normal.flip(-1).flatten(1))
    scores = training.score_finally(splits, RunFolder(tmp_path))
    assert scores.nll == pytest.approx(F.cross_entropy((plain + mirrored) / 2, labels).item())
    np.testing.assert_array_equal(read_predictions(tmp_path).predicted, (plain + mirrored).argmax(dim=1))
    assert training.score(splits.test)[1] == pytest.approx(F.cross_entropy(plain, labels).item())


def test_a_first_layer_is_made_from_the_training_images():
    training = _training(_PLAIN, lambda: WhitenedCNN(4))
    fitted = WhitenedCNN(4)
    fitted.fit_images(_NORMALISATION(_set().store.read(torch.arange(32))))
    assert torch.allclose(training.network.module.whiten.weight, fitted.whiten.weight)


@pytest.mark.gpu
@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_every_option_on_a_gpu_learns_and_goes_on(tmp_path, optimiser):
    recipe = replace(_EVERYTHING, optimiser=optimiser, rates=Rates(rate=1e-3, decay=0.0), cutmix_probability=0.3)
    splits = Splits(train=_shades(), val=_set(seed=1), test=_set(seed=2), normalisation=_NORMALISATION)
    fabric = make_fabric("cuda", "auto")
    training = ArmTraining(_arm(lambda: WhitenedCNN(4)), recipe.rates, recipe, splits, seed=0, fabric=fabric)
    losses = [float(training.step(index, index / 40)["loss"]) for index in range(40)]
    assert fmean(losses[-10:]) < fmean(losses[:10]) - 0.1
    save_checkpoint(tmp_path, Checkpoint(step=40, seconds=1.0, state=training.state()))
    resumed = ArmTraining(_arm(lambda: WhitenedCNN(4)), recipe.rates, recipe, splits, seed=0, fabric=fabric)
    resumed.load_state(load_newest(tmp_path).state)
    assert resumed.score(_shades()) == pytest.approx(training.score(_shades()), rel=1e-3)


@pytest.mark.gpu
def test_no_step_waits_for_the_gpu():
    splits = Splits(train=_set(), val=_set(seed=1), test=_set(seed=2), normalisation=_NORMALISATION)
    fabric = make_fabric("cuda", "auto")
    training = ArmTraining(_arm(lambda: WhitenedCNN(4)), Rates(), _EVERYTHING, splits, seed=0, fabric=fabric)
    for index in range(3):
        training.step(index, 0.6)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.step(3, 0.6)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
def test_a_compiled_network_computes_the_same():
    losses = []
    for compiled in (False, True):
        training = _training(replace(_PLAIN, compile=compiled), lambda: WhitenedCNN(4))
        losses.append([training.step(index, index / 4)["loss"].item() for index in range(3)])
        assert set(training.state()["network"]) == set(WhitenedCNN(4).state_dict())
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # rounding grows from step to step
