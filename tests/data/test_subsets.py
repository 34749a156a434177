import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nndl_suite.data.image_set import resident_set
from nndl_suite.data.subsets import nested_order, nested_subset, subset_size
from nndl_suite.errors import ConfigError


@given(st.integers(0, 50), st.lists(st.integers(0, 5), min_size=2, max_size=120))
def test_every_beginning_is_stratified(seed, classes):
    labels = torch.tensor(classes)
    order = nested_order(len(labels), labels, seed=seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    shares = torch.bincount(labels) / len(labels)
    k = len(shares)
    for size in range(1, len(labels) + 1):
        counts = torch.bincount(labels[order[:size]], minlength=k)
        # each class's places are evenly spaced: at any cut it is within one of its share, the cut itself within k
        cut = (counts.sum() - size).abs()
        assert cut == 0
        assert bool(((counts - shares * size).abs() <= 1 + shares * k).all())


def test_every_class_is_near_its_share_where_all_are_alike():
    labels = torch.arange(5000) % 100
    order = nested_order(5000, labels, seed=3)
    for size in (250, 500, 1250, 2500):
        counts = torch.bincount(labels[order[:size]], minlength=100)
        assert int((counts - size / 100).abs().ceil().max()) <= 1


def test_which_image_is_drawn_is_random_within_a_class():
    labels = torch.arange(40) % 2
    seen = torch.zeros(40)
    for seed in range(400):
        seen[nested_order(40, labels, seed=seed)[:10]] += 1
    assert seen.min() > 60  # 100 expected, 8.7 standard deviation
    assert seen.max() < 140
    uniform = torch.zeros(40)
    for seed in range(400):
        uniform[nested_order(40, None, seed=seed)[:10]] += 1
    assert uniform.min() > 60
    assert uniform.max() < 140


def test_which_class_comes_first_is_random_too():
    first = torch.tensor([nested_order(40, torch.arange(40) % 4, seed=seed)[0] % 4 for seed in range(200)])
    assert torch.bincount(first, minlength=4).min() > 25  # 50 expected, 6 standard deviation


def test_the_smaller_lies_within_the_larger_and_the_callers_randomness_stays():
    pixels = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = resident_set("made", pixels, torch.arange(60) % 3, ("a", "b", "c"))
    before = torch.get_rng_state()
    parts = [nested_subset(images, size, seed=1) for size in (6, 15, 60)]
    assert torch.equal(torch.get_rng_state(), before)
    assert [torch.bincount(part.labels).tolist() for part in parts] == [[2] * 3, [5] * 3, [20] * 3]
    rows = [{pixel.numpy().tobytes() for pixel in part.store.read(torch.arange(len(part)))} for part in parts]
    assert [len(found) for found in rows] == [6, 15, 60]
    assert rows[0] < rows[1] < rows[2]
    assert parts[2] is images
    other = nested_subset(images, 6, seed=2)
    assert other.fingerprint != parts[0].fingerprint


@pytest.mark.parametrize(
    ("fraction", "told"),
    [
        (0.0, "in \\(0, 1\\]"),
        (-0.1, "in"),
        (1.5, "in"),
        (float("nan"), "in"),
        (0.001, "is 0, less"),
        (0.05, "is 5, less"),
    ],
)
def test_fractions_that_give_no_batch(fraction, told):
    with pytest.raises(ConfigError, match=told):
        subset_size(100, fraction, least=10)


def test_sizes():
    assert subset_size(49_999, 0.05, least=512) == 2500
    assert subset_size(100, 1.0, least=100) == 100
