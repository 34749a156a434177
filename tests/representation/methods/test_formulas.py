"""Each method's loss against its paper's printed formula, in float64 loops, and what collapse costs there."""

import math

import pytest
import torch
from bare_methods import DIM, bare, embeddings, rows
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nndl_suite.representation.methods import barlow, dino, lejepa, mocov2, nnclr, swav

Rows = list[list[float]]
SEEDS = st.integers(0, 2**31)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a: list[float]) -> list[float]:
    length = math.hypot(*a)
    return [x / length for x in a]


def cross_entropy(logits: list[float], own: int) -> float:
    highest = max(logits)
    return highest + math.log(sum(math.exp(x - highest) for x in logits)) - logits[own]


def softmax(logits: list[float]) -> list[float]:
    highest = max(logits)
    parts = [math.exp(x - highest) for x in logits]
    return [part / sum(parts) for part in parts]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@given(SEEDS)
def test_mocov2(seed):
    method, views = bare("mocov2", temperature=0.2), embeddings(seed)
    method.queue.rows = method.queue.rows[:7, :DIM].clone()
    queue, (a, b) = [unit(row) for row in method.queue.rows.double().tolist()], rows(views)
    method.queue.rows = torch.tensor(queue, dtype=torch.float32)
    terms = []
    for queries, keys in ((a, b), (b, a)):
        for q, k in zip(queries, keys, strict=True):
            logits = [dot(unit(q), unit(k)), *(dot(unit(q), past) for past in queue)]
            terms.append(cross_entropy([x / 0.2 for x in logits], 0))
    with torch.no_grad():
        assert method(views, None, 0.0).item() == pytest.approx(mean(terms), rel=1e-5)


@given(SEEDS)
def test_mocov3(seed):
    views = embeddings(seed)
    a, b = rows(views)

    def ctr(queries: Rows, keys: Rows) -> float:
        logits = [[dot(unit(q), unit(k)) / 0.2 for k in keys] for q in queries]
        return 2 * 0.2 * mean([cross_entropy(row, i) for i, row in enumerate(logits)])

    expected = ctr(a, b) + ctr(b, a)
    assert bare("mocov3", temperature=0.2)(views, None, 0.0).item() == pytest.approx(expected, rel=1e-5)


@given(SEEDS)
def test_nnclr(seed):
    method, views = bare("nnclr", temperature=0.2), embeddings(seed)
    method.queue.rows = method.queue.rows[:9, :DIM].clone() * 3
    queue, (a, b) = method.queue.rows.double().tolist(), rows(views)

    def term(from_view: Rows, to_view: Rows) -> float:
        nearest = [max(queue, key=lambda past, z=z: dot(unit(z), past)) for z in from_view]
        logits = [[dot(unit(n), unit(p)) / 0.2 for p in to_view] for n in nearest]
        return mean([cross_entropy(row, i) for i, row in enumerate(logits)])

    with torch.no_grad():
        found = method(views, None, 0.0).item()
    assert found == pytest.approx((term(a, b) + term(b, a)) / 2, rel=1e-5)


@given(SEEDS)
def test_byol(seed):
    views = embeddings(seed)
    a, b = rows(views)
    expected = mean([2 - 2 * dot(unit(p), unit(z)) for p, z in zip(a, b, strict=True)])
    assert bare("byol")(views, None, 0.0).item() == pytest.approx(2 * expected, rel=1e-5)


@given(SEEDS)
def test_simsiam(seed):
    views = embeddings(seed)
    a, b = rows(views)
    expected = -mean([dot(unit(p), unit(z)) for p, z in zip(a, b, strict=True)])
    assert bare("simsiam")(views, None, 0.0).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(SEEDS, st.integers(3, 8))
def test_barlow(seed, b):
    views = embeddings(seed, b=b)
    first, second = views.flatten(2).double()

    def standardised(column: torch.Tensor) -> list[float]:
        values = column.tolist()
        centre = mean(values)
        spread = math.sqrt(mean([(x - centre) ** 2 for x in values]) + 1e-5)  # batch norm's epsilon
        return [(x - centre) / spread for x in values]

    left = [standardised(column) for column in first.T]
    right = [standardised(column) for column in second.T]
    expected = 0.0
    for i in range(DIM):
        for j in range(DIM):
            correlation = dot(left[i], right[j]) / b
            expected += (1 - correlation) ** 2 if i == j else barlow.REDUNDANCY * correlation**2
    assert bare("barlow")(views, None, 0.0).item() == pytest.approx(barlow.SCALE * expected, rel=1e-4)


@given(SEEDS, st.integers(3, 8))
def test_vicreg(seed, b):
    views = embeddings(seed, b=b)
    first, second = rows(views)

    def columns(z: Rows) -> Rows:
        return [list(column) for column in zip(*z, strict=True)]

    def variance(z: Rows) -> float:
        spreads = [math.sqrt(sum((x - mean(column)) ** 2 for x in column) / (b - 1) + 1e-4) for column in columns(z)]
        return mean([max(0.0, 1 - spread) for spread in spreads])

    def covariance(z: Rows) -> float:
        centred = [[x - mean(column) for x in column] for column in columns(z)]
        pairs = [(i, j) for i in range(DIM) for j in range(DIM) if i != j]
        return sum((dot(centred[i], centred[j]) / (b - 1)) ** 2 for i, j in pairs) / DIM

    apart = [mean([(x - y) ** 2 for x, y in zip(z, w, strict=True)]) for z, w in zip(first, second, strict=True)]
    # the paper sums v over both branches; its code, and lightly, take their mean
    expected = 25 * mean(apart) + 25 * (variance(first) + variance(second)) / 2 + covariance(first) + covariance(second)
    assert bare("vicreg")(views, None, 0.0).item() == pytest.approx(expected, rel=1e-4)


@given(SEEDS, st.integers(2, 3))
def test_swav(seed, count):
    method, views = bare("swav", temperature=0.1), embeddings(seed, views=count)
    method.prototypes = nn.Parameter(torch.randn(4, DIM, generator=torch.Generator().manual_seed(seed)))
    prototypes = [unit(row) for row in method.prototypes.double().tolist()]
    scores = [[[dot(unit(z), c) for c in prototypes] for z in view] for view in rows(views)]

    def codes(view: Rows) -> Rows:  # algorithm 1's three rounds of Sinkhorn-Knopp
        q = [[math.exp(x / 0.05) for x in row] for row in view]
        for _ in range(3):
            used = [sum(row[k] for row in q) for k in range(4)]
            q = [[x / used[k] / 4 for k, x in enumerate(row)] for row in q]
            q = [[x / sum(row) / len(q) for x in row] for row in q]
        return [[x * len(q) for x in row] for row in q]

    terms = []
    for i, view in enumerate(scores):
        for j, other in enumerate(scores):
            if i != j:
                for code, score in zip(codes(view), other, strict=True):
                    terms.append(sum(c * cross_entropy([x / 0.1 for x in score], k) for k, c in enumerate(code)))
    assert method(views, None, 0.5).item() == pytest.approx(mean(terms), rel=1e-4)


def _as_head(prototypes: int) -> nn.Module:
    class Head(nn.Module):
        def forward(self, features: torch.Tensor, *, frozen: bool) -> torch.Tensor:
            return features[:, :prototypes]

    return Head()


@given(SEEDS, st.integers(2, 3), st.sampled_from([0.0, 0.05, 0.7]))
def test_dino(seed, count, fraction):
    method, views = bare("dino", temperature=0.1), embeddings(seed, views=count)
    method.head = method.teacher_head = _as_head(DIM)
    centre = torch.randn(DIM, generator=torch.Generator().manual_seed(seed))
    method.loss.center = centre.view(1, 1, DIM).clone()
    sharp = 0.04 + 0.03 * min(1.0, fraction / dino.WARMUP)
    terms = []
    for i, teacher in enumerate(rows(views)):
        for j, student in enumerate(rows(views)):
            if i != j:
                for t, s in zip(teacher, student, strict=True):
                    target = softmax([(x - c) / sharp for x, c in zip(t, centre.double().tolist(), strict=True)])
                    terms.append(sum(p * cross_entropy([x / 0.1 for x in s], k) for k, p in enumerate(target)))
    assert method(views, None, fraction).item() == pytest.approx(mean(terms), rel=1e-4)
    expected = 0.9 * centre + 0.1 * views.flatten(2).mean(dim=(0, 1))  # eq. 4
    torch.testing.assert_close(method.loss.center.flatten(), expected)


@given(SEEDS)
def test_lejepa(seed):
    method, views = bare("lejepa"), embeddings(seed, views=3)
    each = rows(views)
    centre = [[mean([view[i][k] for view in each]) for k in range(DIM)] for i in range(5)]
    agreement = mean([(view[i][k] - centre[i][k]) ** 2 for view in each for i in range(5) for k in range(DIM)])
    torch.manual_seed(seed)
    directions = torch.randn(DIM, lejepa.DIRECTIONS).double()
    directions /= directions.norm(dim=0)
    knots = torch.linspace(0, 3, 17).double()
    statistics = []
    for view in views.flatten(2).double():
        shadows = view @ directions  # [b, directions]
        found = torch.exp(1j * shadows[..., None] * knots).mean(dim=0)  # the empirical characteristic function
        gaussian = torch.exp(-knots.square() / 2)
        distance = (found - gaussian).abs().square() * gaussian
        statistics.append(5 * 2 * torch.trapezoid(distance, knots, dim=-1).mean())  # even in t: twice one half
    expected = lejepa.SIGREG * mean([float(s) for s in statistics]) + (1 - lejepa.SIGREG) * agreement
    torch.manual_seed(seed)
    assert method(views, None, 0.0).item() == pytest.approx(expected, rel=1e-4)


def test_supervised():
    method, views = bare("supervised"), embeddings(3, views=2, b=4)
    labels = torch.tensor([0, 4, 2, 2])
    weight, bias = method.classifier.weight.double().tolist(), method.classifier.bias.double().tolist()
    terms = [
        cross_entropy([dot(w, z) + c for w, c in zip(weight, bias, strict=True)], label)
        for view in rows(views)
        for z, label in zip(view, labels.tolist(), strict=True)
    ]
    assert method(views, labels, 0.0).item() == pytest.approx(mean(terms), rel=1e-5)


CHANCE = {
    "mocov2": math.log(1 + mocov2.QUEUE),
    "mocov3": 4 * 0.2 * math.log(5),
    "nnclr": math.log(5),
    "swav": math.log(swav.PROTOTYPES),
    "barlow": barlow.SCALE * DIM,  # no correlation at all: each of the diagonal's ones is missed
    "vicreg": 25 * (1 - math.sqrt(1e-4)),
    "byol": 0.0,  # these two are at their best when all is equal: their asymmetry alone keeps them from it
    "simsiam": -1.0,
}


@pytest.mark.parametrize("name", CHANCE)
def test_what_a_collapsed_network_scores(name):
    method, same = bare(name), torch.ones(2, 5, 3, 2, 2)
    if name in ("mocov2", "nnclr"):
        dim = method.queue.rows.shape[1]
        method.queue.rows = torch.full((len(method.queue.rows), DIM), DIM**-0.5)
        assert dim > DIM
    if name == "swav":
        method.prototypes = nn.Parameter(torch.ones(swav.PROTOTYPES, DIM))
    with torch.no_grad():
        assert method(same, None, 0.5).item() == pytest.approx(CHANCE[name], rel=1e-4, abs=1e-5)


def test_a_collapsed_dino_is_at_chance_and_lejepa_far_from_its_best():
    method = bare("dino")
    method.head = method.teacher_head = _as_head(DIM)
    method.loss.center = torch.zeros(1, 1, DIM)
    assert method(torch.ones(2, 5, 3, 2, 2), None, 0.5).item() == pytest.approx(math.log(DIM), rel=1e-5)
    torch.manual_seed(0)
    gaussian, collapsed = torch.randn(2, 512, 3, 2, 2), torch.zeros(2, 512, 3, 2, 2)
    gaussian[1] = gaussian[0]  # the views agree in both
    method = bare("lejepa")
    assert method(collapsed, None, 0.0) > 20 * method(gaussian, None, 0.0)
    assert nnclr.QUEUE > 4096
