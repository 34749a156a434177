"""Neighbours' votes against the definition in a float64 loop and against lightly's; the choice against all choices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightly.utils.benchmarking.knn import knn_predict
from torch.nn import functional as F

from nndl_suite.errors import DataError
from nndl_suite.representation import knn
from nndl_suite.representation.choice import rows_for_choice
from nndl_suite.representation.knn import NEIGHBOURS, TEMPERATURES, FittedKnn, fit_knn, nearest


def _blobs(n, d=8, k=4, noise=1.0, seed=0):
    """Rows about one direction a class, with labels that are no positions."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(k, d, generator=torch.Generator().manual_seed(99))
    y = torch.randint(k, (n,), generator=g)
    return centres[y] + noise * torch.randn(n, d, generator=g), 10 * y - 7


def _fitted(x, y, neighbours, temperature):
    classes, targets = torch.unique(y, return_inverse=True)
    return FittedKnn(
        bank=F.normalize(x, dim=1),
        targets=targets,
        classes=classes,
        neighbours=neighbours,
        temperature=temperature,
        val_accuracy=0.0,
    )


def _votes(query, x, y, neighbours, temperature):
    """By the definition, one query, in float64 on the CPU, no cleverness."""
    similarities = []
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(query.tolist(), row, strict=True))
        similarities.append((dot / math.dist(query.tolist(), [0] * len(row)) / math.dist(row, [0] * len(row)), label))
    votes = {}
    for similarity, label in sorted(similarities, reverse=True)[:neighbours]:
        votes[label] = votes.get(label, 0.0) + math.exp(similarity / temperature)
    return votes


@given(
    n=st.integers(10, 40),
    neighbours=st.integers(1, 10),
    temperature=st.sampled_from([0.02, 0.1, 1.0]),
    seed=st.integers(0, 99),
)
def test_votes_are_those_of_the_definition(n, neighbours, temperature, seed):
    x, y = _blobs(n, seed=seed)
    queries, _ = _blobs(5, seed=seed + 1000)
    fitted = _fitted(x.double(), y, neighbours, temperature)
    for query, row in zip(queries.double(), fitted.votes(queries.double()), strict=True):
        expected = _votes(query, x.double(), y, neighbours, temperature)
        found = dict(zip(fitted.classes.tolist(), (row / row.sum()).tolist(), strict=True))
        for label, share in found.items():
            assert share == pytest.approx(expected.get(label, 0) / sum(expected.values()), abs=1e-9)


def test_predictions_are_lightlys():
    x, y = _blobs(2000, noise=2.5)
    queries, _ = _blobs(500, noise=2.5, seed=1)
    fitted = _fitted(x, y, 200, 0.1)
    ranked = knn_predict(
        F.normalize(queries, dim=1), F.normalize(x, dim=1).T, fitted.targets, num_classes=4, knn_k=200, knn_t=0.1
    )
    assert torch.equal(fitted.predict(queries), fitted.classes[ranked[:, 0]])


def test_the_nearest_come_first_in_chunks_as_in_one(monkeypatch):
    x, queries = F.normalize(_blobs(300)[0], dim=1), F.normalize(_blobs(70, seed=1)[0], dim=1)
    similarities, rows = nearest(queries, x, 7)
    everything, order = (queries.double() @ x.double().T).sort(dim=1, descending=True)
    torch.testing.assert_close(similarities.double(), everything[:, :7], atol=1e-6, rtol=0)
    assert (rows == order[:, :7]).double().mean() > 0.99  # but for ties in float32
    monkeypatch.setattr(knn, "_SIMILARITIES", 1000)  # three queries at a time
    told = []
    again, again_rows = nearest(queries, x, 7, watch=told.append)
    torch.testing.assert_close(again, similarities, atol=1e-6, rtol=0)
    assert torch.equal(again_rows, rows)
    assert (told[-1].done, told[-1].total) == (70, 70)


def test_the_choice_is_the_best_of_all_on_the_held_out_rows():
    x, y = _blobs(900, noise=2.5)
    fitted = fit_knn(x, y, seed=3)
    rows = rows_for_choice(y, seed=3)
    scores = {
        (neighbours, temperature): (
            _fitted(x[rows.kept], y[rows.kept], neighbours, temperature).predict(x[rows.held_out]) == y[rows.held_out]
        )
        .double()
        .mean()
        .item()
        for neighbours in NEIGHBOURS
        for temperature in TEMPERATURES
    }
    assert fitted.val_accuracy == pytest.approx(max(scores.values()))
    assert scores[fitted.neighbours, fitted.temperature] == pytest.approx(max(scores.values()))
    assert fitted.chosen == {"k": fitted.neighbours, "temperature": fitted.temperature}
    assert len(fitted.bank) == 900  # all rows vote in the end
    first = next(pair for pair, score in scores.items() if score == max(scores.values()))
    assert (fitted.neighbours, fitted.temperature) == first


def test_noise_asks_for_more_neighbours():
    x, y = _blobs(3000, noise=3.0)
    assert fit_knn(x, y, seed=0).neighbours > 5
    lone = torch.arange(12).repeat_interleave(2) - 3
    pairs = F.one_hot(lone + 3, 12).float() + 0.01 * torch.randn(24, 12, generator=torch.Generator().manual_seed(0))
    assert fit_knn(pairs, lone, seed=0).neighbours == 1


def test_only_directions_count():
    x, y = _blobs(600)
    scale = torch.logspace(-3, 3, 600)[:, None]
    assert torch.equal(fit_knn(x, y, seed=0).predict(x[:50]), fit_knn(x * scale, y, seed=0).predict(7 * x[:50]))


def test_mirror_images_are_neighbours_too_but_not_judges():
    x, y = _blobs(200)
    mirrored, _ = _blobs(200, seed=5)
    fitted = fit_knn(x, y, mirrored=mirrored, seed=0)
    assert len(fitted.bank) == 400
    torch.testing.assert_close(fitted.bank[200:], F.normalize(mirrored, dim=1))
    # mirror images that would give every held-out answer away change nothing: they are not in the bank yet
    rows = rows_for_choice(y, seed=0)
    spy = mirrored.clone()
    spy[rows.held_out] = x[rows.held_out]
    assert fit_knn(x, y, mirrored=spy, seed=0).val_accuracy == fitted.val_accuracy


def test_fewer_rows_than_neighbours_and_zero_features():
    x, y = _blobs(12, k=2)
    x[3] = 0
    fitted = fit_knn(x, y, seed=0)
    assert fitted.neighbours <= 11
    assert set(fitted.predict(x).tolist()) <= set(y.tolist())
    assert np.isfinite(fitted.votes(x).numpy()).all()


def test_one_class_is_refused():
    x, y = _blobs(30)
    with pytest.raises(DataError, match="2 classes"):
        fit_knn(x, torch.zeros_like(y), seed=0)
