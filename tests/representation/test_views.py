"""Random views: torchvision's crops and colours, one draw an image, all from one generator."""

import itertools
import math

import pytest
import torch
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms import functional as tv

from nndl_suite.errors import ConfigError
from nndl_suite.representation.colour import blend, shift_hue
from nndl_suite.representation.views import ViewRecipe, _draw_jitter, crop_and_flip, random_boxes, random_views

PLAIN = ViewRecipe(scale=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(b: int = 8, size: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (b, 3, size, size), dtype=torch.uint8, generator=_generator(9))


def test_a_crop_is_torchvisions_resized_crop():
    images = _images(40).float() / 255
    boxes = random_boxes(40, 16, ViewRecipe(scale=(0.05, 1)), _generator())
    flips = torch.arange(40) % 2 == 0
    expected = [
        tv.resized_crop(image, *box, [16, 16], antialias=False)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    expected = torch.stack([tv.hflip(e) if f else e for e, f in zip(expected, flips.tolist(), strict=True)])
    torch.testing.assert_close(crop_and_flip(images, boxes, flips), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.0), (0.5, 2.0))],  # the second often needs another try, or gives up
)
def test_boxes_are_distributed_as_torchvisions(scale, ratio):
    n, size = 8_000, 32
    boxes = random_boxes(n, size, ViewRecipe(scale=scale, ratio=ratio), _generator())
    image = torch.empty(3, size, size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(n)])
    assert ((boxes[:, :2] >= 0) & (boxes[:, :2] + boxes[:, 2:] <= size) & (boxes[:, 2:] > 0)).all()
    for column in range(4):  # Kolmogorov-Smirnov: the 99.99 % quantile of the largest gap is 2.2 * sqrt(2 / n)
        gap = [(t[:, column][:, None] <= torch.arange(size + 1)).float().mean(0) for t in (boxes, theirs)]
        assert (gap[0] - gap[1]).abs().max() < 2.2 * math.sqrt(2 / n)
    products = [(t[:, 2:] - t[:, 2:].double().mean(0)).prod(1) for t in (boxes, theirs)]  # height with width
    error = (products[1].std() * math.sqrt(2 / n)).item()
    assert products[0].mean().item() == pytest.approx(products[1].mean().item(), abs=5 * error)


def test_a_box_that_never_fits_is_the_whole_image():
    boxes = random_boxes(500, 32, ViewRecipe(scale=(1, 1), ratio=(1 / 3, 3)), _generator())
    assert ((boxes[:, 2:] == 32).all(1)).all()


def test_colour_strengths_are_distributed_as_torchvisions():
    recipe, n = ViewRecipe(jitter=1.0), 4000
    drawn = _draw_jitter(n, recipe, _generator())
    jitter = ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [
            ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(n)
        ]
    ours = torch.cat(
        [torch.zeros_like(drawn.strengths).scatter(1, drawn.kinds, drawn.strengths), drawn.hue[:, None]], 1
    )
    for column in range(4):
        other = torch.tensor([t[column + 1] for t in theirs])
        quantiles = torch.linspace(0.05, 0.95, 10)
        spread = (other.max() - other.min()).item()
        torch.testing.assert_close(
            ours[:, column].quantile(quantiles), other.quantile(quantiles), atol=0.035 * spread, rtol=0
        )


def test_jitter_happens_as_often_as_asked():
    off = _draw_jitter(10_000, ViewRecipe(jitter=0.3), _generator())
    alone = (off.strengths == 1).all(1) & (off.hue == 0)
    assert 1 - alone.float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_every_order_of_the_four_operations_occurs():
    """Strong strengths make the 24 orders tell-tale: each view must equal one of them, and all must occur alike."""
    n = 2400
    recipe = ViewRecipe(
        scale=(1, 1), ratio=(1, 1), flip=0, jitter=1, grey=0, brightness=0.9, contrast=0.9, saturation=0.9, hue=0.4
    )
    images = _images(1, 6).expand(n, -1, -1, -1).contiguous()
    views = random_views(images, recipe, generator=_generator(4), num_views=1)[0]
    g = _generator(4)  # the same draws again
    torch.randperm(n, generator=g)
    random_boxes(n, 6, recipe, g)
    torch.rand(n, generator=g)
    drawn = _draw_jitter(n, recipe, g)
    strengths = torch.zeros(n, 3).scatter(1, drawn.kinds, drawn.strengths)
    no, yes = torch.zeros(n, dtype=torch.bool), torch.ones(n, dtype=torch.bool)
    operations = (
        lambda x: blend(x, strengths[:, 0], contrast=no, saturation=no),
        lambda x: blend(x, strengths[:, 1], contrast=yes, saturation=no),
        lambda x: blend(x, strengths[:, 2], contrast=no, saturation=yes),
        lambda x: shift_hue(x, drawn.hue),
    )
    gaps = []
    for order in itertools.permutations(operations):
        expected = images.float() / 255
        for operation in order:
            expected = operation(expected)
        gaps.append((expected - views).abs().amax(dim=(1, 2, 3)))
    nearest, which = torch.stack(gaps).min(dim=0)  # [n]
    assert nearest.max() < 1e-5
    counts = which[torch.stack(gaps).sort(dim=0).values[1] > 1e-3].bincount(minlength=24)
    assert counts.sum() > n / 3
    assert counts.min() > 0.5 * counts.float().mean()


def test_views_of_nothing_are_the_images():
    images = _images(7)
    views = random_views(images, PLAIN, generator=_generator(), num_views=3)
    assert views.shape == (3, 7, 3, 16, 16)
    for view in views:
        torch.testing.assert_close(view, images.float() / 255, atol=2e-6, rtol=0)


def test_each_view_shows_its_own_image():
    """Uniform images of different brightness survive any crop: row j of each view must be image j."""
    images = (torch.arange(100, dtype=torch.uint8) * 2)[:, None, None, None].expand(100, 3, 16, 16).contiguous()
    views = random_views(images, ViewRecipe(jitter=0), generator=_generator())
    torch.testing.assert_close(views, (images.float() / 255).expand(2, -1, -1, -1, -1), atol=1e-3, rtol=0)


def test_flips_and_greys_happen_as_often_as_asked():
    ramp = torch.arange(16, dtype=torch.uint8).mul(16).expand(2000, 3, 16, 16).contiguous()
    views = random_views(
        ramp, ViewRecipe(scale=(1, 1), ratio=(1, 1), jitter=0, grey=0, flip=0.25), generator=_generator()
    )
    assert (views[:, :, 0, 0, 0] > 0.5).float().mean().item() == pytest.approx(0.25, abs=0.03)
    coloured = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].expand(2000, 3, 16, 16).contiguous()
    views = random_views(coloured, ViewRecipe(jitter=0), generator=_generator())
    assert (views.amax(2) - views.amin(2) < 1e-6).flatten(2).all(2).float().mean().item() == pytest.approx(
        0.2, abs=0.03
    )


def test_the_generator_alone_decides():
    images = _images()
    runs = []
    for caller in (1, 2):
        torch.manual_seed(caller)
        before = torch.get_rng_state()
        runs.append(random_views(images, ViewRecipe(), generator=_generator(3)))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], random_views(images, ViewRecipe(), generator=_generator(4)))
    assert not torch.equal(runs[0][0], runs[0][1])
    assert (runs[0] >= 0).all()
    assert (runs[0] <= 1).all()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.5, 1.5)}, "scale"),
        ({"ratio": (1.5, 2.0)}, "ratio"),
        ({"flip": 1.5}, "flip"),
        ({"brightness": -0.1}, "brightness"),
        ({"hue": 0.6}, "hue"),
    ],
)
def test_a_recipe_out_of_range_is_refused(setting, told):
    with pytest.raises(ConfigError, match=told):
        ViewRecipe(**setting)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_views_on_cuda_stay_there():
    images = _images().cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    views = random_views(images, ViewRecipe(), generator=generator)
    assert views.device.type == "cuda"
    assert ((views >= 0) & (views <= 1)).all()
