import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from nndl_suite.comparison.cutmix import CutMix, clipped_boxes, mix_boxes
from nndl_suite.errors import ConfigError

VARIANTS = ["original", "torchvision"]


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
    per_sample=st.booleans(),
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
    if variant == "torchvision" or b > 1:
        torch.testing.assert_close(targets, counted.float(), rtol=0, atol=6e-8)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(b))


def test_shares_are_exact_where_float_can_hold_them():
    images, labels = _painted(64, 1, 32, 32)  # 1024 pixels: every share is a binary fraction
    mixed, targets = CutMix(probability=1, num_classes=64, per_sample=True, generator=_generator(3))(images, labels)
    counted = (mixed[:, 0, :, :, None] == torch.arange(64)).sum(dim=(1, 2)) / 1024
    assert torch.equal(targets, counted)


@pytest.mark.parametrize("variant", VARIANTS)
def test_mean_cut_area_at_32_pixels(variant):
    n = 250_000
    boxes = CutMix(probability=1, variant=variant, generator=_generator(0)).draw_boxes(n, (32, 32)).double()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 1024
    assert area.mean().item() == pytest.approx(0.299, abs=0.002)
    assert (area > 0.5).double().mean().item() == pytest.approx(0.15, abs=0.01)


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
    mixed, targets = mix_boxes(images, labels, boxes=boxes, partner=torch.arange(b).roll(1), num_classes=7)
    assert torch.equal(mixed, expected_images)
    torch.testing.assert_close(targets, expected_targets, rtol=0, atol=2e-7)


def test_boxes_of_the_paper_and_of_torchvision_are_one():
    for size in range(1, 40):
        for lam in torch.rand(200, dtype=torch.float64, generator=_generator(size)).tolist():
            root = math.sqrt(1 - lam)
            assert int(size * root) // 2 == int(0.5 * root * size)


def test_torchvision_variant_has_torchvisions_distribution():
    images, labels = _painted(2, 1, 8, 8)
    ours = CutMix(probability=1, num_classes=2, variant="torchvision", generator=_generator(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = v2.CutMix(num_classes=2)
        cut = torch.tensor([theirs(images, labels)[1][0, 1].item() for _ in range(3000)])
    ours_cut = torch.stack([ours(images, labels)[1][0, 1] for _ in range(3000)])
    assert ours_cut.mean().item() == pytest.approx(cut.mean().item(), abs=0.02)
    assert ours_cut.std().item() == pytest.approx(cut.std().item(), abs=0.02)


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


def test_torchvision_variant_takes_the_image_before():
    images, labels = _painted(5, 1, 16, 16)
    _, targets = CutMix(probability=1, num_classes=5, variant="torchvision", generator=_generator(4))(images, labels)
    assert 0 < targets[0, 0] < 1
    for i in range(5):
        assert targets[i].nonzero().flatten().tolist() == sorted({i, (i - 1) % 5})


def test_one_box_or_one_each():
    images, labels = _painted(40, 1, 16, 16)
    for per_sample, least, most in ((False, 1, 1), (True, 15, 40)):
        mix = CutMix(
            probability=1, num_classes=40, per_sample=per_sample, variant="torchvision", generator=_generator(2)
        )
        mixed, _ = mix(images, labels)
        masks = {tuple((mixed[i] != images[i]).flatten().tolist()) for i in range(40)}
        assert least <= len(masks) <= most


def test_the_generator_alone_decides():
    images, labels = torch.rand(8, 3, 9, 9), torch.arange(8)
    results = []
    for caller_seed in (1, 2):
        torch.manual_seed(caller_seed)
        state = torch.get_rng_state()
        results.append(CutMix(probability=1, num_classes=8, generator=_generator(7))(images, labels))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


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


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(3, dtype=torch.long), "wants images"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(2, dtype=torch.long), "wants images"),
        (torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.long), "wants images"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([0, 100]), "set num_classes"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2), "class numbers"),
    ],
)
def test_batches_are_checked(images, labels, message):
    with pytest.raises(ConfigError, match=message):
        CutMix()(images, labels)
