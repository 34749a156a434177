import math
import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.augmentation import RandomMixUpV2
from timm.data.mixup import Mixup
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from nndl_suite.comparison.cutmix import CutMix
from nndl_suite.comparison.cutmix_or_mixup import CutMixOrMixUp
from nndl_suite.comparison.mixup import MixUp, blend
from nndl_suite.errors import ConfigError

VARIANTS = ["original", "torchvision", "timm", "kornia"]


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _painted(b, h, w, dtype=torch.float32):
    """Image i is 1 in channel i and 0 in all others, everywhere; its label is i."""
    return torch.eye(b).to(dtype)[:, :, None, None].expand(b, b, h, w).contiguous(), torch.arange(b)


def _both(k, cutmix_share=0.5, seed=0, probability=1.0, variant="original"):
    generator = _generator(seed)
    return CutMixOrMixUp(
        cutmix=CutMix(probability=probability, variant=variant, num_classes=k, generator=generator),
        mixup=MixUp(probability=probability, variant=variant, num_classes=k, generator=generator),
        cutmix_share=cutmix_share,
    )


@settings(deadline=None, derandomize=True, max_examples=120)
@given(
    b=st.integers(1, 7),
    h=st.integers(1, 4),
    w=st.integers(1, 4),
    alpha=st.floats(0.05, 20),
    variant=st.sampled_from(VARIANTS),
    per_sample=st.sampled_from([False, True, None]),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_labels_are_the_shares_of_each_pixel(b, h, w, alpha, variant, per_sample, dtype, seed):
    images, labels = _painted(b, h, w, dtype)
    before = images.clone()
    config = {
        "alpha": 1.0 if variant == "kornia" else alpha,
        "probability": 0.9,
        "num_classes": b,
        "variant": variant,
        "per_sample": per_sample,
    }
    mixed, targets = MixUp(**config, generator=_generator(seed))(images, labels)
    assert torch.equal(images, before)
    assert mixed.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    shares = mixed.float()
    torch.testing.assert_close(shares, targets[:, :, None, None].expand_as(shares), rtol=0, atol=6e-8)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(b))
    images_of_pairs, (own, partner, kept) = MixUp(**config, generator=_generator(seed)).pairs(images, labels)
    assert torch.equal(images_of_pairs, mixed)
    assert torch.equal(own, labels)
    expected = torch.zeros(b, b).index_put_((own, own), kept, accumulate=True)
    expected.index_put_((own, partner), 1 - kept, accumulate=True)
    torch.testing.assert_close(targets, expected, rtol=0, atol=1e-7)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(b=st.integers(1, 6), lam=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_same_as_torchvision_and_timm_given_the_same_draws(b, lam, seed):
    images = torch.rand(2 * b, 3, 5, 4, generator=_generator(seed))
    labels = torch.randint(7, (2 * b,), generator=_generator(seed))
    of_torchvision = v2.MixUp(num_classes=7)
    of_torchvision._dist.sample = lambda _: torch.tensor(lam, dtype=torch.float64)
    of_timm = Mixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=7)
    with mock.patch.multiple(np.random, rand=lambda: 0.0, beta=lambda *_: lam):
        expected = {"timm": of_timm(images.clone(), labels), "torchvision": of_torchvision(images, labels)}
    for variant, (expected_images, expected_targets) in expected.items():
        mix = MixUp(num_classes=7, variant=variant, generator=_generator(0))
        draws = torch.tensor([[0.0], [lam]], dtype=torch.float64)  # whether, and λ
        with mock.patch.object(torch, "rand", return_value=draws):
            mixed, targets = mix(images, labels)
        torch.testing.assert_close(mixed, expected_images, rtol=0, atol=3e-7)
        torch.testing.assert_close(targets, expected_targets, rtol=0, atol=3e-7)


@pytest.mark.parametrize("seed", range(5))
def test_same_as_kornia_given_the_same_draws(seed):
    images, labels = torch.rand(7, 3, 5, 4, generator=_generator(seed)), torch.arange(7)
    theirs = RandomMixUpV2(data_keys=["input", "class"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected_images, expected_pairs = theirs(images, labels)
    partner, cut = theirs._params["mixup_pairs"], theirs._params["mixup_lambdas"]
    torch.testing.assert_close(blend(images, kept=1 - cut.double(), partner=partner), expected_images)
    assert torch.equal(expected_pairs[:, 1].long(), partner)
    assert torch.equal(expected_pairs[:, 2], cut)  # kornia's λ is the partner's share


def test_formula_in_float64():
    images = torch.rand(6, 2, 3, 3, dtype=torch.float64, generator=_generator(0))
    config = {"alpha": 0.4, "num_classes": 6, "per_sample": True}
    mixed, targets = MixUp(**config, generator=_generator(1))(images, torch.arange(6))
    _, pairs = MixUp(**config, generator=_generator(1)).pairs(images, torch.arange(6))
    for i, (j, share) in enumerate(zip(pairs.partner_labels.tolist(), pairs.kept.tolist(), strict=True)):
        torch.testing.assert_close(mixed[i], share * images[i] + (1 - share) * images[j], rtol=0, atol=1e-7)
        assert targets[i, j] == pytest.approx(1 if i == j else 1 - share, abs=1e-7)


@pytest.mark.parametrize(("variant", "alpha"), [("original", 0.3), ("timm", 0.8), ("torchvision", 2.0), ("kornia", 1)])
def test_lambda_is_beta(variant, alpha):
    images, labels = torch.zeros(20_000, 1, 1, 1), torch.arange(20_000) % 2
    mix = MixUp(alpha=alpha, num_classes=2, variant=variant, per_sample=True, generator=_generator(0))
    kept = mix.pairs(images, labels)[1].kept.double()
    assert kept.mean().item() == pytest.approx(0.5, abs=0.01)
    assert kept.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_partners_and_shares_by_variant(variant):
    images, labels = torch.rand(6, 1, 2, 2), torch.arange(6)
    pairs = MixUp(num_classes=6, variant=variant, generator=_generator(4)).pairs(images, labels)[1]
    in_order = {"torchvision": [5, 0, 1, 2, 3, 4], "timm": [5, 4, 3, 2, 1, 0]}
    assert sorted(pairs.partner_labels.tolist()) == list(range(6))
    assert variant not in in_order or pairs.partner_labels.tolist() == in_order[variant]
    assert len(set(pairs.kept.tolist())) == (6 if variant == "kornia" else 1)  # kornia draws a λ for each image


def test_half_precision_is_rounded_once():
    images = torch.rand(4, 1, 3, 3, generator=_generator(0))
    for dtype in (torch.float16, torch.bfloat16):
        mixed, _ = MixUp(num_classes=4, generator=_generator(1))(images.to(dtype), torch.arange(4))
        expected, _ = MixUp(num_classes=4, generator=_generator(1))(images.to(dtype).float(), torch.arange(4))
        assert torch.equal(mixed, expected.to(dtype))


def test_uint8_stays_in_its_range():
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 2, 2)
    mixed, targets = MixUp(num_classes=2, variant="timm", generator=_generator(1))(images, torch.arange(2))
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed[:, 0, 0, 0], 255 * targets[:, 1])


@pytest.mark.parametrize("per_sample", [False, True])
def test_probability(per_sample):
    images, labels = _painted(20, 1, 1)
    mix = MixUp(probability=0.3, num_classes=20, variant="timm", per_sample=per_sample, generator=_generator(0))
    kept = torch.stack([mix.pairs(images, labels)[1].kept for _ in range(1000)])
    shares = (kept < 1).double()
    assert shares.mean().item() == pytest.approx(0.3, abs=0.06 if not per_sample else 0.015)
    never = MixUp(probability=0, num_classes=20, per_sample=per_sample, generator=_generator(5))
    mixed, targets = never(images, labels)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.eye(20))


def test_gradients_are_the_shares():
    images = torch.rand(5, 2, 3, 3, generator=_generator(0), requires_grad=True)
    weights = torch.rand(5, generator=_generator(1))
    config = {"num_classes": 5, "variant": "timm", "per_sample": True}
    mixed, targets = MixUp(**config, generator=_generator(2))(images, torch.arange(5))
    (weights * mixed.sum(dim=(1, 2, 3))).sum().backward()
    torch.testing.assert_close(images.grad, (weights @ targets)[:, None, None, None].expand_as(images))


@pytest.mark.parametrize("make", [lambda: MixUp(num_classes=8, generator=_generator(7)), lambda: _both(8, seed=7)])
def test_the_generator_alone_decides(make):
    images, labels = torch.rand(8, 3, 9, 9), torch.arange(8)
    results = []
    for caller_seed in (1, 2):
        torch.manual_seed(caller_seed)
        state = torch.get_rng_state()
        results.append(make()(images, labels))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_or_the_other(variant):
    images, labels = _painted(6, 4, 4)
    mix = _both(6, cutmix_share=0.3, variant=variant)
    blended = []
    for _ in range(300):
        mixed, targets = mix(images, labels)
        torch.testing.assert_close(mixed.mean(dim=(2, 3)), targets)  # the law of both
        blended.append(bool(((mixed > 0) & (mixed < 1)).any()))
    assert np.mean(blended) == pytest.approx(0.7, abs=0.1)
    for share, own in ((1.0, "cutmix"), (0.0, "mixup")):
        always, alone = _both(6, cutmix_share=share, seed=1), _both(6, seed=1)
        torch.rand((), dtype=torch.float64, generator=alone.cutmix.generator)  # the choice
        assert torch.equal(always(images, labels)[0], getattr(alone, own)(images, labels)[0])


def test_both_give_pairs_and_one_type():
    images, labels = _painted(6, 4, 4, torch.uint8)
    mix, again = _both(6, seed=3), _both(6, seed=3)
    for _ in range(6):
        mixed, targets = mix(images, labels)
        mixed_of_pairs, pairs = again.pairs(images, labels)
        assert mixed.dtype == torch.float32
        assert torch.equal(mixed, mixed_of_pairs)
        torch.testing.assert_close(pairs.kept + (1 - pairs.kept) * (pairs.partner_labels == labels), targets.diagonal())


@pytest.mark.parametrize(
    "mix",
    [
        MixUp(num_classes=8),
        CutMixOrMixUp(cutmix=CutMix(probability=1, num_classes=8), mixup=MixUp(num_classes=8)),
    ],
)
def test_collates_in_a_loader_and_pickles(mix):
    mix = pickle.loads(pickle.dumps(mix))
    images, labels = _painted(8, 3, 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batches = list(DataLoader(TensorDataset(images, labels), batch_size=4, collate_fn=mix.collate))
    assert len(batches) == 2
    for mixed, targets in batches:
        torch.testing.assert_close(mixed.mean(dim=(2, 3)), targets)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"variant": "tim"}, "did you mean 'timm'"),
        ({"alpha": 0.0}, "alpha must be"),
        ({"alpha": math.inf}, "alpha must be"),
        ({"variant": "kornia", "alpha": 0.2}, "alpha must be 1"),
        ({"probability": -0.1}, "probability must be"),
        ({"num_classes": 0}, "num_classes must be"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ConfigError, match=message):
        MixUp(**setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"cutmix_share": 1.1}, "cutmix_share must be"),
        ({"mixup": MixUp(num_classes=7)}, "same num_classes, got 100 and 7"),
        ({"mixup": MixUp(generator=_generator(0))}, "no generator"),
    ],
)
def test_settings_of_both_are_checked(setting, message):
    with pytest.raises(ConfigError, match=message):
        CutMixOrMixUp(**{"cutmix": CutMix(), "mixup": MixUp(), **setting})


def test_batches_are_checked():
    with pytest.raises(ConfigError, match="got 3 in row 1"):
        MixUp(num_classes=3)(torch.zeros(2, 1, 2, 2), torch.tensor([0, 3]))
    with pytest.raises(ConfigError, match="wants images"):
        MixUp(num_classes=3)(torch.zeros(2, 2, 2), torch.tensor([0, 1]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_same_on_a_gpu():
    images, labels = torch.rand(8, 3, 9, 9), torch.arange(8)
    on_cpu, on_gpu = (
        MixUp(num_classes=8, generator=_generator(7))(images.to(d), labels.to(d)) for d in ("cpu", "cuda")
    )
    for a, b in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=0, atol=2e-7)
