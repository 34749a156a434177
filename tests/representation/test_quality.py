"""Figures of features meet their papers' formulas, and a collapse is told from features that are merely few."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightly.utils.benchmarking.knn import knn_predict
from torch.nn import functional as F

from nndl_suite.errors import ConfigError
from nndl_suite.representation import quality as quality_module
from nndl_suite.representation.quality import (
    KNN_TEMPERATURE,
    NEIGHBOURS,
    Quality,
    alignment,
    collapse_warning,
    knn_accuracy,
    measure_quality,
    spread,
    uniformity,
)
from nndl_suite.representation.rank import effective_rank

shapes = given(n=st.integers(2, 40), d=st.integers(1, 24), seed=st.integers(0, 2**16), chunk=st.integers(1, 50))


def cloud(n, d, seed=0, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def unit(x):
    x = x.double().numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@shapes
def test_spread_is_simsiams_formula(n, d, seed, chunk):
    x = cloud(n, d, seed, shift=0.3)
    z = unit(x)
    deviations = [math.sqrt(sum((z[i, j] - sum(z[:, j]) / n) ** 2 for i in range(n)) / n) for j in range(d)]
    assert spread(x) == pytest.approx(math.sqrt(d) * sum(deviations) / d, abs=1e-5)


@shapes
def test_alignment_is_the_papers_formula_however_it_is_cut(n, d, seed, chunk):
    x, y = cloud(n, d, seed), cloud(n, d, seed + 1)
    expected = np.mean([np.sum((a - b) ** 2) for a, b in zip(unit(x), unit(y), strict=True)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_module, "_CHUNK", chunk)
        assert alignment(x, y) == pytest.approx(expected, abs=1e-5)


@shapes
def test_uniformity_is_the_papers_formula_however_it_is_cut(n, d, seed, chunk):
    x = cloud(n, d, seed, shift=0.3)
    z = unit(x)
    pairs = [math.exp(-2 * np.sum((z[i] - z[j]) ** 2)) for i in range(n) for j in range(i)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_module, "_CHUNK", chunk)
        assert uniformity(x) == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-5)


@shapes
def test_laws_of_scale_rotation_and_range(n, d, seed, chunk):
    x = cloud(n, d, seed, shift=0.5)
    rotation = torch.linalg.qr(cloud(d, d, seed + 1))[0]
    scaled = x * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed)).add(0.1)
    assert uniformity(scaled @ rotation) == pytest.approx(uniformity(x), abs=1e-4)
    assert alignment(scaled, x) == pytest.approx(0, abs=1e-5)
    assert spread(scaled) == pytest.approx(spread(x), abs=1e-5)
    mean = F.normalize(x, dim=1).mean(dim=0)
    assert 0 <= spread(x) <= math.sqrt(max(0.0, 1 - float(mean.square().sum()))) + 1e-5
    assert -8 - 1e-5 <= uniformity(x) <= 1e-5


def test_an_isotropic_cloud_and_a_constant_one_are_the_ends_of_the_scales():
    isotropic, constant = cloud(4000, 64), torch.ones(50, 64) * torch.rand(50, 1)
    assert spread(isotropic) == pytest.approx(1, abs=0.01)
    assert uniformity(isotropic) == pytest.approx(-4 + 8 / 64, abs=0.01)
    assert alignment(isotropic, cloud(4000, 64, 1)) == pytest.approx(2, abs=0.02)
    assert spread(constant) == pytest.approx(0, abs=1e-4)
    assert uniformity(constant) == pytest.approx(0, abs=1e-4)


def test_features_of_zeros_are_one_point_too():
    zeros = torch.zeros(30, 8)
    assert spread(zeros) == uniformity(zeros) == alignment(zeros, zeros) == 0
    assert effective_rank(zeros) == pytest.approx(1, abs=1e-3)
    assert collapse_warning([measured(zeros)]) is not None


def made_classes(n, d, classes, seed=0, noise=0.3):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(7))
    return centres[labels] + noise * torch.randn(n, d, generator=g), labels


@given(n=st.integers(30, 120), d=st.integers(2, 16), classes=st.integers(2, 6), seed=st.integers(0, 99))
def test_neighbours_vote_as_lightlys_do(n, d, classes, seed):
    bank, labels = made_classes(n, d, classes, seed, noise=1.5)
    queries, wanted = made_classes(40, d, classes, seed + 1, noise=1.5)
    theirs = knn_predict(
        F.normalize(queries, dim=1),
        F.normalize(bank, dim=1).T,
        labels,
        num_classes=classes,
        knn_k=NEIGHBOURS,
        knn_t=KNN_TEMPERATURE,
    )[:, 0]
    assert knn_accuracy(bank, labels, queries, wanted) == pytest.approx((theirs == wanted).double().mean().item())


def on_the_circle(*groups):
    """Features at (count, angle) with the group's number as their label."""
    angle = torch.cat([torch.full((count,), angle) for count, angle in groups])
    labels = torch.cat([torch.full((count,), number) for number, (count, _) in enumerate(groups)])
    return torch.stack([angle.cos(), angle.sin()], dim=1), labels


def test_twenty_neighbours_at_a_tenth():
    query, wanted = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    near = on_the_circle((3, 0.0), (17, 1.0))  # 3 exp(10) against 17 exp(10 cos 1); without a tenth the many win
    assert knn_accuracy(*near, query, wanted) == 1
    twenty = on_the_circle((20, 0.5), (80, 0.51))  # all hundred would elect the far ones
    assert knn_accuracy(*twenty, query, wanted) == 1
    eight = on_the_circle((8, 0.5), (80, 0.51))
    assert knn_accuracy(*eight, query, wanted) == 0


def test_the_accuracy_is_of_rows_that_were_left_out_of_the_bank():
    noise, labels = cloud(400, 32), torch.arange(400) % 4
    found = measured(noise, labels=labels).knn_accuracy
    assert found is not None
    assert abs(found - 0.25) < 0.12  # a row that found itself would make it 1
    separable, labels = made_classes(400, 32, 4)
    assert measured(separable, labels=labels).knn_accuracy == 1


def test_labels_need_not_begin_at_zero_nor_be_in_order():
    features, labels = made_classes(200, 16, 3)
    assert measured(features, labels=labels * 10 + 5).knn_accuracy == 1
    features, labels = made_classes(200, 16, 5)
    by_class = labels.argsort()  # the last fifth is a class of its own
    assert measured(features[by_class], labels=labels[by_class]).knn_accuracy == 1


def measured(plain, *, labels=None, embeddings=None):
    return measure_quality(plain, plain, plain, labels=labels, embeddings=embeddings)


def test_each_figure_is_of_what_its_field_says():
    plain, one, two, z = cloud(60, 8), cloud(60, 8, 1, shift=1), cloud(60, 8, 2), cloud(60, 5, 3, shift=2)
    found = measure_quality(plain, one, two, embeddings=z)
    assert found == Quality(
        spread=spread(plain),
        effective_rank=effective_rank(plain),
        alignment=alignment(one, two),
        uniformity=uniformity(one),
        embedding_spread=spread(z),
        embedding_rank=effective_rank(z),
        knn_accuracy=None,
        images=60,
        feature_dim=8,
        embedding_dim=5,
    )
    assert set(found.figures()) == {
        "spread",
        "effective_rank",
        "alignment",
        "uniformity",
        "embedding_spread",
        "embedding_rank",
    }


def test_features_that_are_not_finite_give_nan_and_no_collapse():
    broken = cloud(20, 4)
    broken[3, 1] = math.nan
    found = measured(broken, labels=torch.arange(20) % 2, embeddings=broken)
    assert math.isnan(found.spread)
    assert math.isnan(found.effective_rank)
    assert math.isnan(found.embedding_rank)
    assert collapse_warning([found]) is None


def test_one_image_has_no_quality():
    with pytest.raises(ConfigError, match=">= 2 images, got 1"):
        measured(cloud(1, 4))


# --- collapse


ISOTROPIC = cloud(500, 64)
CONSTANT = torch.ones(500, 64) + 1e-3 * cloud(500, 64, 1)
RANK_ONE = cloud(500, 1) * cloud(1, 64, 2)
"""Both signs, so its spread is high."""
FEW = cloud(500, 2) @ cloud(2, 64, 3)
TEN_CLASSES, LABELS = made_classes(500, 512, 10, noise=0.001)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ([], CONSTANT, "to one direction"),
        ([ISOTROPIC], CONSTANT, "to one direction"),
        ([CONSTANT, CONSTANT], CONSTANT, "to one direction"),
        ([], RANK_ONE, "to one direction"),
        ([ISOTROPIC, FEW], RANK_ONE, "to one direction"),
        ([ISOTROPIC], FEW @ torch.eye(64, 128), "to few directions"),
    ],
)
def test_collapsed_features_are_told_with_their_figures(before, now, told):
    history = [measured(features) for features in (*before, now)]
    warning = collapse_warning(history)
    assert warning is not None
    assert warning.startswith(f"the features have collapsed {told} (spread ")
    assert f"effective rank {history[-1].effective_rank:.1f} of {min(now.shape)}" in warning


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([], ISOTROPIC),
        ([CONSTANT], ISOTROPIC),
        ([RANK_ONE], ISOTROPIC),
        ([], TEN_CLASSES),
        ([TEN_CLASSES, TEN_CLASSES], TEN_CLASSES),
        ([FEW], FEW),  # few from the beginning: nothing was lost
        ([ISOTROPIC], cloud(500, 8) @ cloud(8, 64, 3)),  # an eighth is left
    ],
)
def test_features_that_live_are_left_in_peace(before, now):
    assert collapse_warning([measured(features) for features in (*before, now)]) is None


def test_few_directions_that_the_labels_approve_of_are_no_collapse():
    wide = made_classes(500, 512, 10, noise=1.0)[0]
    wide = wide + 3 * cloud(500, 512, 5)
    history = [measured(x, labels=LABELS) for x in (wide, TEN_CLASSES)]
    assert history[-1].effective_rank < quality_module.LOW_RANK_SHARE * 500 < history[0].effective_rank / 2
    assert history[-1].knn_accuracy == 1
    assert collapse_warning(history) is None
    unapproved = [replace(history[0], knn_accuracy=None), replace(history[1], knn_accuracy=None)]
    assert "to few directions" in str(collapse_warning(unapproved))
    worse = [history[0], replace(history[1], knn_accuracy=0.1)]
    assert "to few directions" in str(collapse_warning(worse))


def test_a_spread_that_rises_again_is_no_collapse():
    flat, rising = (measured(torch.ones(500, 64) + noise * ISOTROPIC) for noise in (0.01, 0.04))
    assert max(flat.spread, rising.spread) < quality_module.COLLAPSED_SPREAD
    assert collapse_warning([flat, rising]) is None
    assert collapse_warning([rising, flat]) is not None


def test_embeddings_collapse_while_features_live():
    history = [measured(ISOTROPIC, embeddings=z) for z in (ISOTROPIC, CONSTANT)]
    assert "the embeddings have collapsed to one direction" in str(collapse_warning(history))
    assert collapse_warning(history[:1]) is None


def test_the_thresholds_are_what_the_text_says():
    thresholds = (
        quality_module.COLLAPSED_SPREAD,
        quality_module.COLLAPSED_RANK,
        quality_module.LOW_RANK_SHARE,
        quality_module.RANK_FALL,
    )
    assert thresholds == (0.05, 1.5, 0.03, 0.5)
    for noise, collapsed in ((0.045, True), (0.055, False)):
        x = torch.ones(4000, 64) + noise * cloud(4000, 64)
        assert (collapse_warning([measured(x)]) is not None) == collapsed
    assert collapse_warning([]) is None
