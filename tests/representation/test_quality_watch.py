"""A backbone may be looked at while it learns, and nothing about it changes; a collapsed run can be ended."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nndl_suite.data.image_set import ResidentImages, resident_set
from nndl_suite.errors import NndlError
from nndl_suite.models.backbones import Backbone, build_backbone
from nndl_suite.models.normalisation import IMAGENET
from nndl_suite.models.weights import read_header, read_state_dict
from nndl_suite.representation import quality_watch as watch_module
from nndl_suite.representation.features import FeatureSource, extract_features
from nndl_suite.representation.quality import Quality, measure_quality, spread, uniformity
from nndl_suite.representation.quality_watch import (
    MOST_COST,
    QualityWatch,
    epochs_between_looks,
    look,
    quality_sample,
)
from nndl_suite.representation.rank import effective_rank
from nndl_suite.representation.views import ViewRecipe
from nndl_suite.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nndl_suite.training.fabric import make_fabric

RECIPES = (ViewRecipe(), ViewRecipe(saturation=0.2))
STILL = (ViewRecipe(scale=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0),) * 2


def noise_set(n=90, size=16, classes=3):
    pixels = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return resident_set("noise", pixels, torch.arange(n) % classes, [str(i) for i in range(classes)])


@pytest.fixture
def source():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone("resnet18-slim", image_size=16)
        with torch.no_grad():  # statistics that eval mode can be told from training mode by
            backbone(torch.randn(64, 3, 16, 16))
    return FeatureSource(name="x", backbone=backbone, normalisation=IMAGENET, resolution=16)


@pytest.fixture
def fabric():
    return make_fabric("cpu", "32-true")


def test_figures_are_of_the_features_that_a_probe_would_get(source, fabric):
    images = noise_set()
    found = look(source, None, images, RECIPES, fabric, seed=0)
    plain = extract_features(source, images, fabric)
    assert found.spread == pytest.approx(spread(plain), rel=1e-4)
    assert found.effective_rank == pytest.approx(effective_rank(plain), rel=1e-4)
    assert found.knn_accuracy == measure_quality(plain, plain, plain, labels=images.labels).knn_accuracy
    assert (found.images, found.feature_dim, found.embedding_spread) == (90, 128, None)


def test_views_that_change_nothing_are_aligned_and_others_are_not(source, fabric):
    images = noise_set()
    plain = extract_features(source, images, fabric)
    still = look(source, None, images, STILL, fabric, seed=0)
    assert still.alignment == pytest.approx(0, abs=1e-6)
    assert still.uniformity == pytest.approx(uniformity(plain), abs=1e-4)
    moved = look(source, None, images, RECIPES, fabric, seed=0)
    assert moved.alignment > 1e-3
    one_view = look(source, None, images, RECIPES[:1], fabric, seed=0)  # a method of one view draws it twice
    assert one_view.alignment > 1e-3


def test_embeddings_are_what_the_projector_makes_of_the_features(source, fabric):
    images, projector = noise_set(), nn.Sequential(nn.Linear(128, 8), nn.BatchNorm1d(8))
    with torch.no_grad():
        projector(torch.randn(50, 128))
        found = look(source, projector, images, RECIPES, fabric, seed=0)
        embeddings = projector.eval()(extract_features(source, images, fabric))
    assert found.embedding_spread == pytest.approx(spread(embeddings), rel=1e-4)
    assert found.embedding_rank == pytest.approx(effective_rank(embeddings), rel=1e-4)
    assert found.embedding_dim == 8


@pytest.mark.parametrize("training", [True, False])
def test_a_look_changes_nothing_and_repeats_itself(source, fabric, training):
    images, projector = noise_set(), nn.Sequential(nn.Linear(128, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    source.backbone.train(training)
    projector.train(training)
    before = {name: tensor.clone() for name, tensor in (source.backbone.state_dict() | projector.state_dict()).items()}
    torch.manual_seed(11)
    global_state = torch.get_rng_state()
    first = look(source, projector, images, RECIPES, fabric, seed=0)
    torch.manual_seed(12)
    again = look(source, projector, images, RECIPES, fabric, seed=0)
    torch.manual_seed(11)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert first == again
    assert first.alignment != look(source, projector, images, RECIPES, fabric, seed=1).alignment
    after = source.backbone.state_dict() | projector.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    modules = [*source.backbone.modules(), *projector.modules()]
    assert all(module.training == training for module in modules)


def test_the_callers_global_generator_is_not_drawn_from(source, fabric):
    before = torch.get_rng_state()
    look(source, None, quality_sample(noise_set(), seed=3), RECIPES, fabric, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


class _Thawed(nn.BatchNorm2d):
    """Batch norm that stays in training mode whatever one says."""

    def train(self, mode: bool = True):
        return super().train(True)


def test_a_network_that_changes_while_it_is_looked_at_is_caught(fabric):
    trunk = nn.Sequential(_Thawed(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = Backbone(trunk, name="thawed", stem="imagenet", feature_dim=3)
    thawed = FeatureSource(name="x", backbone=backbone, normalisation=IMAGENET, resolution=16)
    with pytest.raises(RuntimeError, match="running_mean"):
        look(thawed, None, noise_set(), RECIPES, fabric, seed=0)


def test_gradients_of_a_step_are_the_same_bits_after_a_look(source, fabric):
    images = torch.randn(8, 3, 16, 16)

    def gradients():
        source.backbone.zero_grad()
        source.backbone(images).square().mean().backward()
        return [parameter.grad.clone() for parameter in source.backbone.parameters()]

    source.backbone.train()
    statistics = {name: tensor.clone() for name, tensor in source.backbone.state_dict().items()}
    unwatched = gradients()
    source.backbone.load_state_dict(statistics)
    look(source, None, noise_set(), RECIPES, fabric, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(unwatched, gradients(), strict=True))


# --- the sample


def test_the_sample_is_drawn_by_the_seed_with_its_labels():
    images = noise_set(3000, size=8)
    sample, same, other = (quality_sample(images, seed=seed) for seed in (0, 0, 1))
    assert isinstance(sample.store, ResidentImages)
    assert (len(sample), sample.fingerprint) == (1000, same.fingerprint)
    assert sample.fingerprint != other.fingerprint
    assert torch.equal(sample.store.pixels, same.store.pixels)
    where = {
        pixels.numpy().tobytes(): int(label) for pixels, label in zip(images.store.pixels, images.labels, strict=True)
    }
    assert [where[pixels.numpy().tobytes()] for pixels in sample.store.pixels] == sample.labels.tolist()
    assert sample.labels.unique(return_counts=True)[1].min() > 250  # of every class, though labels lie in order


@pytest.mark.parametrize(("total", "count"), [(50, 50), (1000, 1000), (20_000, 1000), (30_000, 1200), (99_999, 2000)])
def test_the_size_of_the_sample(total, count):
    images = resident_set("tiny", torch.zeros(total, 3, 1, 1, dtype=torch.uint8), None, ())
    sample = quality_sample(images, seed=0)
    assert len(sample) == count
    assert sample.labels is None


@given(total=st.integers(2, 200_000), dropped=st.floats(0, 0.9))
def test_looks_cost_a_few_percent_of_the_training_at_most(total, dropped):
    per_epoch = max(2, int(total * (1 - dropped)))
    sample = noise_set(min(total, max(1000, min(2000, total // 25))), size=1)
    every = epochs_between_looks(sample, images_per_epoch=per_epoch)
    forward, step = 3 * len(sample), 2 * 3 * per_epoch
    assert forward <= MOST_COST * every * step + 1e-9
    assert every == 1 or forward > MOST_COST * (every - 1) * step - 1e-6


# --- the run


def quality(**changed) -> Quality:
    usual = {
        "spread": 0.5,
        "effective_rank": 40.0,
        "alignment": 0.2,
        "uniformity": -1.0,
        "embedding_spread": 0.9,
        "embedding_rank": 30.0,
        "knn_accuracy": 0.5,
        "images": 90,
        "feature_dim": 128,
        "embedding_dim": 64,
    }
    return Quality(**usual | changed)


GOOD, GONE = quality(), quality(embedding_spread=0.004, embedding_rank=1.2)


@pytest.fixture
def watch(source, fabric, tmp_path, monkeypatch):
    """Whose looks find what a test puts into `finds`."""
    finds = []
    monkeypatch.setattr(watch_module, "look", lambda *_, **__: finds.pop(0))
    made = QualityWatch(
        source=source,
        projector=None,
        sample=noise_set(),
        recipes=RECIPES,
        fabric=fabric,
        seed=0,
        keep=tmp_path / "last_good_backbone.safetensors",
    )
    return made, finds


def test_it_looks_when_it_is_due_and_says_what_is_to_be_logged(watch):
    made, finds = watch
    made.every = 3
    finds += [GOOD, GOOD]
    logged = [made.end_of_epoch(epoch) for epoch in range(7)]
    assert [bool(figures) for figures in logged] == [False, False, True, False, False, True, False]
    assert logged[2] == GOOD.figures()
    assert list(made.looks) == [2, 5]
    assert made.warning is None
    made.stop_on_collapse()


def test_a_collapse_ends_the_run_with_epoch_and_figures_and_the_last_good_backbone(watch, source):
    made, finds = watch
    finds += [GOOD, GONE]
    made.look(0)
    good = {name: tensor.clone() for name, tensor in source.backbone.trunk.state_dict().items()}
    with torch.no_grad():
        for parameter in source.backbone.parameters():
            parameter.zero_()
    made.look(1)
    with pytest.raises(
        NndlError, match=r"stopped after epoch 2: the embeddings have collapsed.*0\.004.*1\.2 of 64"
    ) as told:
        made.stop_on_collapse()
    assert str(made.keep) in str(told.value)
    kept = read_state_dict(made.keep)
    assert all(torch.equal(kept[name], good[name]) for name in good)
    header = read_header(made.keep)
    assert header is not None
    assert (header.backbone, header.image_size, header.normalisation) == ("resnet18-slim", 16, IMAGENET)


def test_what_was_never_good_is_not_kept(watch):
    made, finds = watch
    finds += [GONE, quality(spread=math.nan)]
    made.look(0)
    with pytest.raises(NndlError, match="stopped after epoch 1") as told:
        made.stop_on_collapse()
    assert "last good" not in str(told.value)
    made.look(1)
    assert not made.keep.exists()
    made.keep = None
    finds += [GOOD]
    made.look(2)


def test_looks_survive_a_checkpoint(watch, tmp_path):
    made, finds = watch
    finds += [GOOD, quality(knn_accuracy=None, embedding_spread=None, embedding_rank=None, embedding_dim=None)]
    made.look(0)
    made.look(4)
    file = save_checkpoint(tmp_path, Checkpoint(step=1, seconds=0.0, state={"quality": made.state()}))
    before, made.looks = made.looks, {}
    made.load_state(load_checkpoint(file).state["quality"])
    assert made.looks == before


def test_a_real_run_of_looks(source, fabric):
    made = QualityWatch(source=source, projector=None, sample=noise_set(), recipes=RECIPES, fabric=fabric, seed=0)
    assert made.end_of_epoch(0) == look(source, None, noise_set(), RECIPES, fabric, seed=0).figures()
