"""The online probe learns from the backbone's features, and the backbone never notices."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nndl_suite.errors import ConfigError
from nndl_suite.models.backbones import build_backbone
from nndl_suite.representation.online_probe import LEARNING_RATE, OnlineProbe, features_passing
from nndl_suite.training.checkpoints import Checkpoint, equal_states, load_checkpoint, save_checkpoint
from nndl_suite.training.schedules import warmup_cosine


def blobs(n, classes=3, d=8, seed=0, noise=1.0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(5))
    return centres[labels] + noise * torch.randn(n, d, generator=g), labels


def steps_of_a_method(backbone, probe, *, precision=torch.float32):
    """Three steps of a pretext task, with or without a probe beside it; the gradients of the last and the weights."""
    optimiser = torch.optim.SGD(backbone.parameters(), lr=0.1)
    for index in range(3):
        views = torch.randn(2 * 6, 3, 16, 16, generator=torch.Generator().manual_seed(index))
        labels = torch.arange(6) % 3
        with features_passing(backbone) as passed, torch.autocast("cpu", precision, enabled=precision != torch.float32):
            one, two = backbone(views).chunk(2)
            loss = -F.cosine_similarity(one.float(), two.float()).mean()
        optimiser.zero_grad()
        if probe is not None:
            probe.step(torch.cat(passed), labels, index / 3)  # before the backward: a graph is there to leak into
        loss.backward()
        if probe is not None:
            probe.step(one, labels, index / 3)  # not detached by the caller
        optimiser.step()
    return [parameter.grad for parameter in backbone.parameters()], backbone.state_dict()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_and_weights_of_the_backbone_are_the_same_bits_with_and_without(precision):
    with torch.random.fork_rng():
        alone = build_backbone("resnet18-slim", image_size=16)
    beside = copy.deepcopy(alone)
    probe = OnlineProbe(feature_dim=128, num_classes=3, device="cpu")
    gradients, weights = steps_of_a_method(alone, None, precision=precision)
    probed_gradients, probed_weights = steps_of_a_method(beside, probe, precision=precision)
    assert all(torch.equal(a, b) for a, b in zip(gradients, probed_gradients, strict=True))
    assert equal_states(weights, probed_weights)
    assert probe.state()["weight"].abs().max() > 0  # and it did learn


def test_a_step_alone_gives_the_backbone_no_gradient_at_all():
    backbone = build_backbone("resnet18-slim", image_size=16)
    probe = OnlineProbe(feature_dim=128, num_classes=3, device="cpu")
    probe.step(backbone(torch.randn(6, 3, 16, 16)), torch.arange(6) % 3, 0.0)
    assert all(parameter.grad is None for parameter in backbone.parameters())


@given(seed=st.integers(0, 99), views=st.integers(1, 3), d=st.integers(1, 12), classes=st.integers(2, 5))
def test_it_is_a_linear_layer_under_adam(seed, views, d, classes):
    reference = nn.Linear(d, classes)  # in float32 too: Adam makes full steps of gradients that round to 0
    nn.init.zeros_(reference.weight)
    nn.init.zeros_(reference.bias)
    adam = torch.optim.Adam(reference.parameters())
    probe = OnlineProbe(feature_dim=d, num_classes=classes, device="cpu")
    for index in range(4):
        batches = [blobs(10, classes, d, seed + 7 * index, noise=1.0 + view) for view in range(views)]
        features, labels = torch.cat([x for x, _ in batches]), batches[0][1]  # the labels are of the seed alone
        logits = reference(features)
        everyone = torch.cat([labels] * views)
        loss = F.cross_entropy(logits, everyone)
        adam.param_groups[0]["lr"] = LEARNING_RATE * warmup_cosine(index / 4, 0.0)
        adam.zero_grad()
        loss.backward()
        adam.step()
        told = probe.step(features, labels, index / 4)
        assert float(told["online_loss"]) == pytest.approx(loss.item(), abs=1e-6)
        assert not told["online_loss"].requires_grad
        accuracy = (logits.argmax(dim=1) == everyone).float().mean().item()
        assert float(told["online_accuracy"]) == pytest.approx(accuracy)
    torch.testing.assert_close(probe.state()["weight"], reference.weight.detach(), atol=1e-6, rtol=1e-5)


def test_it_learns_what_there_is_to_learn():
    probe = OnlineProbe(feature_dim=8, num_classes=3, device="cpu")
    for index in range(600):
        features, labels = blobs(64, seed=index, noise=0.5)
        told = probe.step(features, labels, index / 600)
    unseen, labels = blobs(500, seed=10_000, noise=0.5)
    assert probe.accuracy(unseen, labels) > 0.9
    assert float(told["online_accuracy"]) > 0.85
    shuffled = labels.roll(1)
    assert probe.accuracy(unseen, shuffled) == pytest.approx(1 / 3, abs=0.1)


def test_it_computes_in_float32_wherever_it_is_called():
    features, labels = blobs(32)
    outside, inside = (OnlineProbe(feature_dim=8, num_classes=3, device="cpu") for _ in range(2))
    for _ in range(2):
        outside.step(features, labels, 0.0)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            inside.step(features, labels, 0.0)
    assert equal_states(outside.state(), inside.state())
    with torch.autocast("cpu", torch.bfloat16):
        inside.step(features.bfloat16(), labels, 0.0)
    assert inside.state()["weight"].dtype == torch.float32


def test_it_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path):
    whole = OnlineProbe(feature_dim=8, num_classes=3, device="cpu")
    for index in range(3):
        whole.step(*blobs(16, seed=index), index / 6)
    file = save_checkpoint(tmp_path, Checkpoint(step=3, seconds=0.0, state={"online": whole.state()}))
    resumed = OnlineProbe(feature_dim=8, num_classes=3, device="cpu")
    resumed.load_state(load_checkpoint(file).state["online"])
    for index in range(3, 6):
        told = [probe.step(*blobs(16, seed=index), index / 6)["online_loss"] for probe in (whole, resumed)]
        assert torch.equal(*told)
    assert equal_states(whole.state(), resumed.state())


def test_it_draws_nothing_from_the_callers_generator():
    before = torch.get_rng_state()
    probe = OnlineProbe(feature_dim=8, num_classes=3, device="cpu")
    probe.step(*blobs(16), 0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_class_is_refused():
    with pytest.raises(ConfigError, match=">= 2 classes, got 0"):
        OnlineProbe(feature_dim=8, num_classes=0, device="cpu")


def test_features_are_noted_as_they_pass_and_only_those_of_the_student():
    backbone = build_backbone("resnet18-slim", image_size=16).eval()
    teacher, images = copy.deepcopy(backbone), torch.randn(4, 3, 16, 16)
    with features_passing(backbone) as passed:
        given_back = backbone(images)
        teacher(images)
    backbone(images)
    assert len(passed) == 1
    assert torch.equal(passed[0], given_back)
    assert given_back.requires_grad
    assert not passed[0].requires_grad
