"""One step of every trainer beside the same step in float64: gradients, what moves, and running statistics.

The shadow gets the same batch. Its gradients must be those of the trainer to `GRADIENT` (of the norm of all of
them); then it takes the trainer's gradients, so that an Adam that divides noise by noise does not hide a wrong update,
and must end where the trainer does to `MOVED` (of the way that was gone).
"""

import copy
from contextlib import contextmanager

import pytest
import torch
from made import PLAIN, SIZE, arm, finetuning, pretraining
from torch.nn import functional as F

from nndl_suite.comparison.optimisers import make_optimiser as arm_optimiser
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.recipe_mix import mix_of
from nndl_suite.comparison.training_images import augment
from nndl_suite.comparison.vit import vit_of_kind
from nndl_suite.data.augmentation import crop_and_flip
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.optimisers import make_optimiser
from nndl_suite.training.seeds import derived_seed, generator_for, isolated_rng

LOSS, GRADIENT, MOVED, STATISTICS = 1e-5, 3e-3, 1e-3, 1e-5
FRACTION = 0.5
"""Of the run: prototypes have begun to move, and teachers follow."""


@contextmanager
def all_double():
    """`float()` keeps doubles, and what is drawn in double is what is drawn in float."""
    draw = torch.randn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(torch, "randn", lambda *size, dtype=None, **more: draw(*size, **more).double())
        yield


class Gradients(dict):
    """Those of a step, by name, though the step clears them."""

    def __init__(self, network):
        super().__init__()
        for name, weight in network.named_parameters():
            if weight.requires_grad:
                weight.register_post_accumulate_grad_hook(lambda weight, name=name: self._note(name, weight))

    def _note(self, name, weight):
        self[name] = weight.grad.double().clone()


def apart(ours, theirs):
    """The distance of all tensors together, as a share of the second ones' norm."""
    assert ours.keys() == theirs.keys()
    away = sum((ours[name].double() - theirs[name]).square().sum() for name in ours)
    return float((away / sum(theirs[name].square().sum() for name in theirs)).sqrt())


def weights_of(network):
    return {name: weight.detach().double().clone() for name, weight in network.named_parameters()}


def check_gradients(ours, shadow, limit=GRADIENT):
    theirs = {name: weight.grad for name, weight in shadow.named_parameters() if weight.grad is not None}
    assert apart(ours, theirs) < limit
    whole = sum(gradient.square().sum() for gradient in theirs.values()).sqrt()
    for name, gradient in theirs.items():  # none is lost among larger ones, but for those that are rounding alone
        assert (ours[name] - gradient).norm() < 10 * limit * gradient.norm() + 1e-6 * whole, name


def check_move(network, shadow, gradients, optimiser, limit=MOVED):
    """The shadow takes our gradients; both must have gone the same way."""
    before = weights_of(shadow)
    for name, weight in shadow.named_parameters():
        if weight.requires_grad:
            weight.grad = gradients[name].clone()
    optimiser.step()
    return lambda: _check_way(before, weights_of(network), weights_of(shadow), limit)


def _check_way(before, ours, theirs, limit):
    assert (
        apart(
            {name: ours[name] - before[name] for name in before}, {name: theirs[name] - before[name] for name in before}
        )
        < limit
    )


def check_statistics(network, shadow):
    theirs = dict(shadow.named_buffers())
    for name, ours in network.named_buffers():
        torch.testing.assert_close(ours.double(), theirs[name].double(), rtol=STATISTICS, atol=STATISTICS, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_pretraining(method):
    learning = pretraining(method)
    learner = learning._method
    shadow = copy.deepcopy(learner).double()
    batch = learning._batches.at(0)
    views = learning._views(batch.images, 0).double()
    gradients = Gradients(learner)
    figures = learning.step(0, FRACTION)
    with all_double(), isolated_rng(derived_seed(0, "method", 0)):
        loss = shadow(views, batch.labels if METHODS[method].labels else None, FRACTION)
    loss.backward()
    assert float(figures["loss"]) == pytest.approx(loss.detach().item(), rel=LOSS)
    check_gradients(gradients, shadow)
    optimiser = make_optimiser(shadow, learning._recipe, rate=figures["learning_rate"], momentum=0.9)
    check = check_move(learner, shadow, gradients, optimiser)
    shadow.after_step(FRACTION)
    check()
    check_statistics(learner, shadow)


def small_vit():
    return vit_of_kind("vit", num_classes=4, image_size=SIZE)(width=16, depth=2, head_dim=8, mlp_width=32).build()


ARMS = {
    "adamw": (Recipe(batch_size=8, rates=PLAIN.rates), None, MOVED),
    "sgd, clipped": (Recipe(batch_size=8, optimiser="sgd", rates=PLAIN.rates, clip_norm=0.1), None, MOVED),
    "adam": (Recipe(batch_size=8, optimiser="adam", rates=PLAIN.rates), None, MOVED),
    "muon": (Recipe(batch_size=8, optimiser="muon", rates=PLAIN.rates), None, 2e-2),  # multiplies in bfloat16
    "MixUp, ViT": (Recipe(batch_size=8, mixup_probability=0.5, rates=PLAIN.rates), small_vit, MOVED),
}


@pytest.mark.parametrize("name", ARMS)
def test_an_arm(name):
    recipe, build, moved = ARMS[name]
    training = arm(recipe, build)
    network = training.network.module
    shadow = copy.deepcopy(network).double()
    gradients = Gradients(network)
    batch = training.batches.at(0)
    generator = generator_for(0, "augmentation", 0)
    images = augment(batch.images, recipe, generator, seed=derived_seed(0, "randaugment", 0))
    mixed, soft = mix_of(recipe, 4, generator)(images, batch.labels)
    figures = training.step(0, FRACTION)
    logits = shadow(training._normal(mixed).double())
    smooth = (1 - recipe.label_smoothing) * soft.double() + recipe.label_smoothing / 4
    loss = -(smooth * logits.log_softmax(dim=1)).sum(dim=1).mean()
    loss.backward()
    assert float(figures["loss"]) == pytest.approx(loss.detach().item(), rel=LOSS)
    check_gradients(gradients, shadow)
    if recipe.clip_norm is not None:
        norm = sum(gradient.square().sum() for gradient in gradients.values()).sqrt()
        assert norm > recipe.clip_norm
        gradients = {key: gradient * recipe.clip_norm / norm for key, gradient in gradients.items()}
    optimiser = arm_optimiser(shadow, recipe.optimiser, recipe.rates)
    for group in optimiser.param_groups:
        group["lr"] = training._optimiser.param_groups[0]["lr"]
    check_move(network, shadow, gradients, optimiser, moved)()
    check_statistics(network, shadow)


def test_finetuning():
    training = finetuning()
    network = training.network.module
    shadow = copy.deepcopy(network).double()
    gradients = Gradients(network)
    batch = training.batches.at(0)
    images = crop_and_flip(batch.images, generator_for(0, "augmentation", 0), padding=4, flip=True)
    figures = training.step(0, FRACTION)
    loss = F.cross_entropy(shadow(training._source.normalisation(images.double() / 255)), batch.labels)
    loss.backward()
    assert float(figures["loss"]) == pytest.approx(loss.detach().item(), rel=LOSS)
    check_gradients(gradients, shadow)
    parts = [{"params": shadow[0].parameters(), "lr": 1e-4}, {"params": shadow[1].parameters(), "lr": 1e-3}]
    check_move(network, shadow, gradients, torch.optim.AdamW(parts))()
    check_statistics(network, shadow)
