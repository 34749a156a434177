import math
import pickle
import runpy
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.augmentation import RandomCutMixV2
from packaging.version import Version
from timm.data.mixup import Mixup
from timm.data.mixup import cutmix_bbox_and_lam as timm_box
from torch.distributions import Beta, Uniform
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from nndl_suite.comparison.cutmix import (
    CutMix,
    box_areas,
    clipped_boxes,
    fill_boxes,
    inner_boxes,
    pixel_targets,
    whole_clipped_boxes,
)
from nndl_suite.errors import ConfigError

NEW_TIMM = pytest.mark.skipif(Version(version("timm")) < Version("1.0.31"), reason="timm had other boxes before")
NEW_KORNIA = pytest.mark.skipif(Version(version("kornia")) < Version("0.9"), reason="kornia had another lambda before")
VARIANTS = ["original", "torchvision", "timm", "kornia"]
PARTNERS = {"torchvision": lambda i, b: (i - 1) % b, "timm": lambda i, b: b - 1 - i}


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _painted(b, c, h, w, dtype=torch.uint8):
    """Image i has the value i everywhere, and the label i."""
    return torch.arange(b).to(dtype)[:, None, None, None].expand(b, c, h, w).contiguous(), torch.arange(b)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    b=st.integers(1, 9),
    c=st.integers(1, 3),
    h=st.integers(1, 17),
    w=st.integers(1, 17),
    alpha=st.floats(0.05, 20),
    variant=st.sampled_from(VARIANTS),
    per_sample=st.sampled_from([False, True, None]),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
)
def test_labels_are_pixel_shares(b, c, h, w, alpha, variant, per_sample, seed, dtype):
    images, labels = _painted(b, c, h, w, dtype)
    before = images.clone()
    mix = CutMix(
        alpha=alpha, probability=0.9, num_classes=b, variant=variant, per_sample=per_sample, generator=_generator(seed)
    )
    mixed, targets = mix(images, labels)
    assert mixed.dtype == dtype
    assert mixed.data_ptr() != images.data_ptr()
    assert torch.equal(images, before)
    counted = torch.zeros(b, b, dtype=torch.float64)
    for image in range(b):
        for value in range(b):
            counted[image, value] = (mixed[image, 0] == value).sum().item() / (h * w)
    assert torch.equal(mixed, mixed[:, :1].expand_as(mixed))  # all channels are cut alike
    assert torch.equal(targets, counted.float())
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(b))
    again = CutMix(
        alpha=alpha, probability=0.9, num_classes=b, variant=variant, per_sample=per_sample, generator=_generator(seed)
    )
    images_of_pairs, (own, partner, kept) = again.pairs(images, labels)
    assert torch.equal(images_of_pairs, mixed)
    assert torch.equal(own, labels)
    kept_area = torch.where(own == partner, 1, counted[labels, own])
    torch.testing.assert_close(torch.where(own == partner, 1, kept), kept_area.float(), rtol=0, atol=0)
    torch.testing.assert_close(
        torch.where(own == partner, 0, 1 - kept), torch.where(own == partner, 0, counted[labels, partner].float())
    )


def test_shares_are_exact_where_float_can_hold_them():
    images, labels = _painted(64, 1, 32, 32)  # 1024 pixels: every share is a binary fraction
    mixed, targets = CutMix(probability=1, num_classes=64, per_sample=True, generator=_generator(3))(images, labels)
    counted = (mixed[:, 0, :, :, None] == torch.arange(64)).sum(dim=(1, 2)) / 1024
    assert torch.equal(targets, counted)


def _lengths(variant, side, size):
    """The lengths along one axis, each as likely, of a box whose unclipped side is `side` pixels, by the formulas."""
    if variant == "kornia":
        return [side]
    before, after = (side // 2, (side + 1) // 2) if variant == "timm" else (side // 2, side // 2)
    return [min(centre + after, size) - max(centre - before, 0) for centre in range(size)]


def _exact(variant, size):
    """Mean cut area, and P(area > 1/2), of a square image at alpha 1: P(side = k) = ((k + 1)² - k²) / size²."""
    mean = above = Fraction(0)
    for side in range(size):
        share, lengths = Fraction(2 * side + 1, size**2), _lengths(variant, side, size)
        mean += share * Fraction(sum(lengths), len(lengths)) ** 2 / size**2
        large = sum(2 * y * x > size**2 for y in lengths for x in lengths)
        above += share * Fraction(large, len(lengths) ** 2)
    return float(mean), float(above)


@pytest.mark.parametrize(
    ("variant", "mean", "above"),
    [("original", 0.299, 0.15), ("torchvision", 0.299, 0.15), ("timm", 0.310, 0.16), ("kornia", 0.479, 0.48)],
)
def test_cut_area_at_32_pixels(variant, mean, above):
    assert _exact(variant, 32) == pytest.approx((mean, above), abs=0.005)
    n = 250_000
    mix = CutMix(probability=1, variant=variant, per_sample=True, generator=_generator(0))
    area = torch.cat([box_areas(mix.draw_boxes(1, (32, 32))) for _ in range(50)])  # alone they are drawn no otherwise
    assert 0 <= area.min() <= area.max() <= 1024
    area = box_areas(mix.draw_boxes(n, (32, 32))).double() / 1024
    expected_mean, expected_above = _exact(variant, 32)
    assert area.mean().item() == pytest.approx(expected_mean, abs=4 * area.std().item() / n**0.5)
    spread = (expected_above * (1 - expected_above) / n) ** 0.5
    assert (area > 0.5).double().mean().item() == pytest.approx(expected_above, abs=4 * spread)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(b=st.integers(1, 6), h=st.integers(1, 21), w=st.integers(1, 21), lam=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_same_as_torchvision_given_the_same_draws(b, h, w, lam, seed):
    images = torch.rand(b, 3, h, w, generator=_generator(seed))
    labels = torch.randint(7, (b,), generator=_generator(seed))
    theirs = v2.CutMix(num_classes=7)
    theirs._dist.sample = lambda _: torch.tensor(lam, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected_images, expected_targets = theirs(images, labels)
        torch.manual_seed(seed)
        x = torch.randint(w, (1,))  # torchvision draws x before y
        y = torch.randint(h, (1,))
    boxes = clipped_boxes(torch.tensor([lam], dtype=torch.float64), torch.stack([y, x], dim=1), (h, w))
    partner = torch.arange(b).roll(1)
    assert torch.equal(fill_boxes(images, boxes=boxes, partner=partner), expected_images)
    targets = pixel_targets(labels, boxes=boxes, partner=partner, pixels=h * w, num_classes=7)
    torch.testing.assert_close(targets, expected_targets, rtol=0, atol=2e-7)


@NEW_TIMM
@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    half=st.integers(1, 3),
    h=st.integers(1, 21),
    w=st.integers(1, 21),
    lam=st.floats(0, 1),
    smoothing=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 2**31),
)
def test_same_as_timm_given_the_same_draws(half, h, w, lam, smoothing, seed):
    images = torch.rand(2 * half, 3, h, w, generator=_generator(seed))
    labels = torch.randint(7, (2 * half,), generator=_generator(seed))
    y, x = (int(torch.randint(side, (1,), generator=_generator(seed))) for side in (h, w))
    theirs = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, label_smoothing=smoothing, num_classes=7)
    centres = iter([y, x])
    with mock.patch.multiple(np.random, rand=lambda: 0.0, beta=lambda *_: lam, randint=lambda *_, **__: next(centres)):
        expected_images, expected_targets = theirs(images.clone(), labels)
    boxes = whole_clipped_boxes(torch.tensor([lam], dtype=torch.float64), torch.tensor([[y, x]]), (h, w))
    partner = torch.arange(2 * half).flip(0)
    assert torch.equal(fill_boxes(images, boxes=boxes, partner=partner), expected_images)
    targets = pixel_targets(labels, boxes=boxes, partner=partner, pixels=h * w, num_classes=7)
    torch.testing.assert_close(targets * (1 - smoothing) + smoothing / 7, expected_targets, rtol=0, atol=3e-7)


@NEW_KORNIA
@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    b=st.integers(2, 9), h=st.integers(1, 21), w=st.integers(1, 21), alpha=st.floats(0.2, 5), seed=st.integers(0, 2**31)
)
def test_same_as_kornia_given_the_same_draws(b, h, w, alpha, seed):
    images = torch.rand(b, 3, h, w, generator=_generator(seed))
    labels = torch.randint(7, (b,), generator=_generator(seed))
    theirs = RandomCutMixV2(beta=alpha, data_keys=["input", "class"], use_correct_lambda=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected_images, expected_pairs = theirs(images, labels)
        torch.manual_seed(seed)
        torch.bernoulli(torch.ones(b))  # whether each is mixed
        partner = Uniform(0.0, 1.0).sample((b,)).argsort()
        kept = Beta(torch.tensor(alpha), torch.tensor(alpha)).sample((b,))
        x, y = Uniform(0.0, 1.0).sample((b,)), Uniform(0.0, 1.0).sample((b,))  # kornia draws x before y
    boxes = inner_boxes(kept, torch.stack([y, x], dim=1), (h, w))
    assert torch.equal(fill_boxes(images, boxes=boxes, partner=partner), expected_images)
    assert torch.equal(labels[partner], expected_pairs[0, :, 1].long())
    torch.testing.assert_close(1 - box_areas(boxes) / (h * w), expected_pairs[0, :, 2], rtol=0, atol=2e-7)


def _boxes_of_torchvision(n, alpha, size):
    transform, image = v2.CutMix(alpha=alpha, num_classes=2), [torch.zeros(1, *size)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        boxes = torch.tensor([transform.make_params(image)["box"] for _ in range(n)])
    return boxes[:, [1, 0, 3, 2]]


def _boxes_of_timm(n, alpha, size):
    rng = np.random.default_rng(0)
    with mock.patch.multiple(np.random, randint=rng.integers):
        boxes = [timm_box(size, lam)[0] for lam in rng.beta(alpha, alpha, n)]
    return torch.tensor(np.array(boxes))[:, [0, 2, 1, 3]]


def _boxes_of_kornia(n, alpha, size):
    transform = RandomCutMixV2(beta=alpha, data_keys=["input", "class"], use_correct_lambda=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        corners = transform.forward_parameters((n, 1, *size))["crop_src"][0].long()
    return torch.cat([corners[:, 0].flip(1), corners[:, 2].flip(1) + 1], dim=1)


@pytest.mark.parametrize(
    ("variant", "theirs"),
    [
        ("torchvision", _boxes_of_torchvision),
        pytest.param("timm", _boxes_of_timm, marks=NEW_TIMM),
        pytest.param("kornia", _boxes_of_kornia, marks=NEW_KORNIA),
    ],
)
def test_boxes_have_the_library_s_distribution(variant, theirs):
    n, alpha, size = 10_000, 0.6, (24, 41)
    mix = CutMix(alpha=alpha, probability=1, variant=variant, per_sample=True, generator=_generator(0))

    def figures(boxes):
        height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        return torch.stack([height, width, height * width, height % 2, width % 2, boxes[:, 0], boxes[:, 1]]).numpy()

    for our, their in zip(figures(mix.draw_boxes(n, size)), figures(theirs(n, alpha, size)), strict=True):
        values = np.union1d(our, their)
        ours_below, theirs_below = (np.searchsorted(np.sort(x), values, side="right") / n for x in (our, their))
        assert abs(ours_below - theirs_below).max() < 1.95 * (2 / n) ** 0.5  # Kolmogorov-Smirnov, one in a thousand


def test_boxes_of_the_paper_and_of_torchvision_are_one():
    for size in range(1, 40):
        for lam in torch.rand(200, dtype=torch.float64, generator=_generator(size)).tolist():
            root = math.sqrt(1 - lam)
            assert int(size * root) // 2 == int(0.5 * root * size)


def test_beta_has_the_right_spread():
    mix = CutMix(alpha=0.2, probability=1, generator=_generator(1))
    boxes = mix.draw_boxes(100_000, (1001, 1001)).double()
    unclipped = boxes[(boxes[:, 0] > 0) & (boxes[:, 1] > 0) & (boxes[:, 2] < 1001) & (boxes[:, 3] < 1001)]
    # Of tiny boxes nearly none is clipped: P(1 - λ < 0.0001) of Beta(0.2, 0.2), from the power law of its density at 0.
    tiny = ((unclipped[:, 2] - unclipped[:, 0]) / 1001 < 0.01).sum().item() / 100_000
    beta = math.gamma(0.2) ** 2 / math.gamma(0.4)
    assert tiny == pytest.approx(0.0001**0.2 / 0.2 / beta, abs=0.01)


@pytest.mark.parametrize("per_sample", [False, True])
def test_probability(per_sample):
    images, labels = _painted(50, 1, 16, 16)
    mix = CutMix(probability=0.3, num_classes=50, per_sample=per_sample, generator=_generator(5))
    boxes = mix.draw_boxes(20_000, (64, 64))
    empty_though_drawn = 0.006  # λ so near to 1 that half the side is no pixel: (2 / 64)² plus what clipping leaves
    assert (boxes[:, 2] > boxes[:, 0]).double().mean().item() == pytest.approx(0.3, abs=0.01 + empty_though_drawn)
    never = CutMix(probability=0, num_classes=50, per_sample=per_sample, generator=_generator(5))
    mixed, targets = never(images, labels)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.eye(50))


@pytest.mark.parametrize("variant", ["torchvision", "timm"])
def test_partners_in_order(variant):
    images, labels = _painted(6, 1, 16, 16)
    mix = CutMix(probability=1, num_classes=6, variant=variant, generator=_generator(4))
    for _ in range(5):
        _, pairs = mix.pairs(images, labels)
        assert pairs.partner_labels.tolist() == [PARTNERS[variant](i, 6) for i in range(6)]


@pytest.mark.parametrize("variant", ["original", "kornia"])
def test_partners_by_chance(variant):
    images, labels = _painted(3, 1, 4, 4)
    mix = CutMix(num_classes=3, variant=variant, generator=_generator(4))
    orders = [tuple(mix.pairs(images, labels)[1].partner_labels.tolist()) for _ in range(1200)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6  # all permutations, self-pairs among them
    assert abs(counts - 200).max() < 4 * (1200 / 6 * 5 / 6) ** 0.5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("per_sample", [False, True, None])
def test_one_box_or_one_each(variant, per_sample):
    images, labels = _painted(40, 1, 16, 16)
    mix = CutMix(probability=1, num_classes=40, variant=variant, per_sample=per_sample, generator=_generator(5))
    mixed, _ = mix(images, labels)
    changed = mixed != images
    masks = {tuple(mask.flatten().tolist()) for mask in changed[changed.flatten(1).any(dim=1)]}
    each = per_sample or (per_sample is None and variant == "kornia")  # as kornia does unless told otherwise
    assert 15 <= len(masks) <= 40 if each else len(masks) == 1


def test_kornia_mixes_all_images_or_none():
    mix = CutMix(probability=0.5, variant="kornia", generator=_generator(6))
    empty = [(box_areas(mix.draw_boxes(20, (32, 32))) == 0).double().mean().item() for _ in range(200)]
    assert all(share == 1 or share < 0.3 for share in empty)  # a few boxes are too small to be one
    assert np.mean([share == 1 for share in empty]) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_generator_alone_decides(variant):
    images, labels = torch.rand(8, 3, 9, 9), torch.arange(8)
    results = []
    for caller_seed in (1, 2):
        torch.manual_seed(caller_seed)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
        mix = CutMix(probability=1, num_classes=8, variant=variant, generator=_generator(7))
        results.append(mix(images, labels))
        assert torch.equal(torch.get_rng_state(), state)
        assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_go_where_pixels_came_from(variant):
    images = torch.rand(6, 2, 8, 8, generator=_generator(0), requires_grad=True)
    mix = CutMix(probability=1, num_classes=6, variant=variant, generator=_generator(1))
    mixed, _ = mix(images, torch.arange(6))
    weights = torch.rand(mixed.shape, generator=_generator(2))
    (weights * mixed).sum().backward()
    painted, _ = _painted(6, 1, 8, 8)
    source, _ = CutMix(probability=1, num_classes=6, variant=variant, generator=_generator(1))(
        painted, torch.arange(6)
    )  # [b, 1, h, w]: the image that each pixel is of
    expected = torch.stack([torch.where(source == i, weights, 0).sum(dim=0) for i in range(6)])
    torch.testing.assert_close(images.grad, expected)


def test_a_loss_of_pairs_is_the_loss_of_targets():
    images, labels = torch.rand(9, 1, 8, 8), torch.randint(5, (9,), generator=_generator(0))
    logits = torch.randn(9, 5, generator=_generator(1))
    settings_of_both = {"probability": 1, "num_classes": 5, "per_sample": True}
    _, targets = CutMix(**settings_of_both, generator=_generator(2))(images, labels)
    _, pairs = CutMix(**settings_of_both, generator=_generator(2)).pairs(images, labels)
    own, other = (
        F.cross_entropy(logits, y, reduction="none", label_smoothing=0.1) for y in (pairs.labels, pairs.partner_labels)
    )
    torch.testing.assert_close(
        (pairs.kept * own + (1 - pairs.kept) * other).mean(), F.cross_entropy(logits, targets, label_smoothing=0.1)
    )


def _loader(mix, workers, seed):
    images, labels = _painted(16, 1, 8, 8)
    return DataLoader(
        TensorDataset(images, labels),
        batch_size=4,
        collate_fn=mix.collate,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        generator=_generator(seed),
    )


def test_collates_in_a_loader():
    images, labels = _painted(4, 1, 8, 8)
    mixed, targets = CutMix(probability=1, num_classes=16, generator=_generator(1))(images, labels)
    batches = list(_loader(CutMix(probability=1, num_classes=16, generator=_generator(1)), 0, 0))
    assert torch.equal(batches[0][0], mixed)
    assert torch.equal(batches[0][1], targets)
    assert len(batches) == 4
    collated = CutMix(num_classes=3).collate([(torch.zeros(1, 2, 2), 0), (torch.ones(1, 2, 2), 2)])  # plain numbers
    assert collated[1].shape == (2, 3)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_draw_by_the_loader_s_generator():
    mix = CutMix(probability=1, num_classes=16)
    loader = _loader(mix, 2, 3)
    first, second = list(loader), list(loader)
    again = list(_loader(mix, 2, 3))
    assert all(torch.equal(a, b) for batches in zip(first, again, strict=True) for a, b in zip(*batches, strict=True))
    boxes = {
        tuple((batch[0] % 4 != torch.arange(4)[:, None, None, None]).any(dim=0).flatten().tolist())
        for batch in first + second
    }
    assert len(boxes) >= 6  # of 8: two workers, two epochs, none like another but by chance


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_refuse_copies_of_a_generator():
    loader = _loader(CutMix(num_classes=16, generator=_generator(0)), 1, 0)
    with pytest.raises(ConfigError, match="leave generator out"):
        list(loader)


def test_pickles():
    mix = CutMix(alpha=0.4, variant="timm", num_classes=7)
    assert pickle.loads(pickle.dumps(mix)) == mix
    assert pickle.loads(pickle.dumps(mix.collate)).__self__ == mix


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_on_a_gpu(variant):
    images, labels = torch.rand(8, 3, 9, 9), torch.arange(8)
    results = [
        CutMix(probability=1, num_classes=8, variant=variant, generator=_generator(7))(images.to(d), labels.to(d))
        for d in ("cpu", "cuda")
    ]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(*results, strict=True))


def test_the_example_runs(capsys):
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(Path(__file__).parents[2] / "examples" / "cutmix_loader.py"), run_name="__main__")
    assert "loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"variant": "orignal"}, "did you mean 'original'"),
        ({"alpha": 0.0}, "alpha must be"),
        ({"alpha": math.nan}, "alpha must be"),
        ({"probability": 1.5}, "probability must be"),
        ({"num_classes": 0}, "num_classes must be"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ConfigError, match=message):
        CutMix(**setting)


@pytest.mark.parametrize("samples", [[], [(torch.zeros(1, 2, 2),)], [(torch.zeros(1, 2, 2), 0, 1)]])
def test_samples_are_checked(samples):
    with pytest.raises(ConfigError, match="samples of"):
        CutMix().collate(samples)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(3, dtype=torch.long), "wants images"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(2, dtype=torch.long), "wants images"),
        (torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.long), "wants images"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([0, 100]), "got 100 in row 1; set num_classes"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2), "class numbers"),
    ],
)
def test_batches_are_checked(images, labels, message):
    with pytest.raises(ConfigError, match=message):
        CutMix()(images, labels)
