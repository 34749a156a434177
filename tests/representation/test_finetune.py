"""Fine-tuning: the stated protocol, everything moves, and a seed decides every bit, also across a stop."""

import os
import signal

import pytest
import torch
from torch import nn

from nndl_suite import LinearProbe
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.image_set import resident_set
from nndl_suite.errors import ConfigError, DataError, Interrupted
from nndl_suite.representation import finetune as finetune_module
from nndl_suite.representation.features import load_feature_source
from nndl_suite.representation.finetune import FinetuneSettings, FinetuneTraining, finetune
from nndl_suite.training.checkpoints import equal_states
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.runs import open_run

SHORT = FinetuneSettings(epochs=2, batch_size=27)


@pytest.fixture(scope="module")
def fabric():
    return make_fabric("cpu", "32-true")


@pytest.fixture(scope="module")
def train(small_set):
    return load_image_set(small_set, "train")


def _run(path, resume=False):
    return open_run(path, kind="probe", settings={}, resume=resume)


def _training(train, fabric, seed=0, settings=SHORT):
    source = load_feature_source("random", train, backbone="resnet18-slim", seed=seed)
    return FinetuneTraining(source, train, settings, seed=seed, fabric=fabric)


def _finetuned(train, fabric, path, seed=0, resume=False):
    source = load_feature_source("random", train, backbone="resnet18-slim", seed=seed)
    return finetune(source, train, SHORT, _run(path, resume), seed=seed, fabric=fabric)


def test_the_network_and_its_rates_are_the_stated_ones(train, fabric):
    training = _training(train, fabric, settings=FinetuneSettings(learning_rate=0.003, batch_size=54))
    backbone, head = training.network.module
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert (head[0].in_features, head[0].out_features, head[2].in_features, head[2].out_features) == (128, 512, 512, 3)
    slow, fast = training._optimiser.param_groups
    assert (slow["lr"], fast["lr"]) == (pytest.approx(0.0003), 0.003)
    assert isinstance(training._optimiser.optimizer, torch.optim.AdamW)
    assert {id(p) for p in slow["params"]} == {id(p) for p in backbone.parameters()}
    assert {id(p) for p in fast["params"]} == {id(p) for p in head.parameters()}
    assert (FinetuneSettings().epochs, FinetuneSettings().learning_rate) == (20, 1e-3)


def test_everything_moves(train, fabric):
    training = _training(train, fabric)
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    training.step(0, 0.0)
    after = training.network.state_dict()
    assert all(p.requires_grad for p in training.network.parameters())
    assert [name for name, tensor in before.items() if torch.equal(tensor, after[name])] == []


def test_the_loss_is_cross_entropy_of_cropped_and_mirrored_images(train, fabric, monkeypatch):
    seen = []
    crop = finetune_module.crop_and_flip

    def spied(images, generator, **how):
        seen.append((images, how, crop(images, generator, **how)))
        return seen[-1][-1]

    monkeypatch.setattr(finetune_module, "crop_and_flip", spied)
    training = _training(train, fabric)
    reference = load_feature_source("random", train, backbone="resnet18-slim")
    _, head = training.network.module
    batch = training.batches.at(0)
    head_before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    loss = training.step(0, 0.0)["loss"]
    (images, how, cropped), *more = seen
    assert (how, more) == ({"padding": 4, "flip": True}, [])
    assert torch.equal(images, batch.images)
    head.load_state_dict(head_before)
    with torch.no_grad():
        logits = head(reference.backbone.train()(reference.normalisation(cropped)))
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(logits, batch.labels).item(), abs=1e-5)


def test_it_learns_and_leaves_the_network_in_training_mode(train, small_set, fabric, tmp_path):
    source = load_feature_source("random", train, backbone="resnet18-slim")
    settings = FinetuneSettings(epochs=8, batch_size=27, learning_rate=3e-3)
    tuned = finetune(source, train, settings, _run(tmp_path / "r"), seed=0, fabric=fabric)
    test = load_image_set(small_set, "test")
    assert tuned.training.accuracy(test) > 0.8
    assert tuned.training.network.training
    assert torch.equal(tuned.training.predict(test), tuned.training.predict(test))
    metrics = _run(tmp_path / "r", resume=True).metrics()
    assert [line["epoch"] for line in metrics if "epoch" in line] == list(range(1, 9))
    assert metrics[-1]["val_accuracy"] == tuned.val_accuracy


def test_the_held_out_images_are_not_learned_from(train, fabric, tmp_path, monkeypatch):
    sets = []
    batches = finetune_module.Batches
    monkeypatch.setattr(
        finetune_module, "Batches", lambda images, **how: (sets.append(images), batches(images, **how))[1]
    )
    scored = []
    predict = FinetuneTraining.predict
    monkeypatch.setattr(
        FinetuneTraining, "predict", lambda self, images: (scored.append(images), predict(self, images))[1]
    )
    _finetuned(train, fabric, tmp_path / "r")
    learned = {image.numpy().tobytes() for image in sets[0].store.pixels}
    assert len(learned) == 108
    for images in scored:
        assert images.labels.bincount().tolist() == [4, 4, 4]
        assert learned.isdisjoint(image.numpy().tobytes() for image in images.store.pixels)


def test_the_seed_decides_every_bit_and_the_callers_randomness_stays(train, fabric, tmp_path):
    states = []
    for caller, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(caller)
        before = torch.get_rng_state()
        states.append(_finetuned(train, fabric, tmp_path / f"{caller}{seed}", seed=seed).training.state())
        assert torch.equal(torch.get_rng_state(), before)
    assert equal_states(states[0], states[1])
    assert not equal_states(states[0], states[2])


def test_a_stopped_run_ends_where_an_undisturbed_one_does(train, fabric, tmp_path, monkeypatch):
    undisturbed = _finetuned(train, fabric, tmp_path / "a")
    step = FinetuneTraining.step

    def stopped(self, index, fraction):
        if index == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, index, fraction)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneTraining, "step", stopped)
        with pytest.raises(Interrupted, match="after step 5 of 8"):
            _finetuned(train, fabric, tmp_path / "b")
    again = _finetuned(train, fabric, tmp_path / "b", resume=True)
    assert equal_states(again.training.state(), undisturbed.training.state())
    assert again.val_accuracy == undisturbed.val_accuracy
    assert again.seconds_before > 0 == pytest.approx(undisturbed.seconds_before, abs=0.01)


def test_folded_norms_get_statistics_before_they_are_trained(train, fabric, tmp_path):
    source = load_feature_source("random", train, backbone="resnet18-slim")
    trunk = source.backbone.trunk
    with torch.no_grad():
        trunk.bn1.weight.fill_(50)  # as left by a trainer whose maps were small
    pixels = source.normalisation(train.store.read(torch.arange(64)))
    wanted = source.backbone.eval()(pixels)
    finetuned = finetune(
        source,
        train,
        FinetuneSettings(epochs=1, batch_size=27, learning_rate=1e-9),
        _run(tmp_path / "run"),
        seed=0,
        fabric=fabric,
    )
    backbone = finetuned.training.network.module[0].train()
    assert trunk.bn1.running_var.max() != 1
    found = backbone(pixels)
    assert (found - wanted).square().mean() < 0.3 * wanted.square().mean()  # the noise of 64 images' statistics


def test_it_works_at_another_resolution(train, fabric, tmp_path):
    source = load_feature_source("random", train, backbone="resnet18-slim", stem="imagenet", resolution=32)
    shapes = []
    source.backbone.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    finetune(source, train, FinetuneSettings(epochs=1, batch_size=54), _run(tmp_path / "r"), seed=0, fabric=fabric)
    assert set(shapes) == {(54, 3, 32, 32), (12, 3, 32, 32)}


def test_misuse_is_told_kindly(train, fabric, tmp_path):
    for wrong, told in (
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ):
        with pytest.raises(ConfigError, match=told):
            FinetuneSettings(**wrong)
    source = load_feature_source("random", train, backbone="resnet18-slim")
    one_class = resident_set("one", train.store.pixels, torch.zeros(120, dtype=torch.int64), ("a", "b"))
    with pytest.raises(DataError, match="2 classes and >= 10 images, one has 1 and 120"):
        finetune(source, one_class, SHORT, _run(tmp_path / "a"), seed=0, fabric=fabric)
    with pytest.raises(DataError, match="has no labels"):
        finetune(source, train.without_labels(), SHORT, _run(tmp_path / "b"), seed=0, fabric=fabric)
    with pytest.raises(ConfigError, match=r"batch_size must be in \[1, 108\]"):
        finetune(source, train, FinetuneSettings(batch_size=109), _run(tmp_path / "c"), seed=0, fabric=fabric)


def test_a_batch_that_the_images_cannot_fill_leaves_no_folder(tmp_path):
    probe = LinearProbe(
        features="random", protocol="finetune", backbone="resnet18-slim", batch_size=100_000, device="cpu"
    )
    with pytest.raises(ConfigError, match=r"batch_size must be in \[1, \d+\] for demo"):
        probe.evaluate("demo", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
