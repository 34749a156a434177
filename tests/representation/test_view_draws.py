"""What is drawn is distributed as torchvision's transforms draw it: two-sample tests with fixed seeds."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from torchvision.transforms import ColorJitter, GaussianBlur, RandomResizedCrop

from nndl_suite.representation.view_draws import draw_view, random_boxes
from nndl_suite.representation.view_recipe import ViewRecipe


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _alike(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Kolmogorov-Smirnov: a wrong alarm in ten thousand, were the seeds not fixed."""
    assert ks_2samp(ours.double().numpy(), theirs.double().numpy(), method="asymp").pvalue > 1e-4


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        (32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (32, (0.9, 1.0), (0.5, 2.0)),  # often needs another try, or gives up
        (96, (0.2, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(size, scale, ratio):
    n = 8_000
    boxes = random_boxes(n, size, ViewRecipe(scale=scale, ratio=ratio), _generator())
    image = torch.empty(3, size, size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(n)])
    assert ((boxes[:, :2] >= 0) & (boxes[:, :2] + boxes[:, 2:] <= size) & (boxes[:, 2:] > 0)).all()
    for column in range(4):
        _alike(boxes[:, column], theirs[:, column])
    (top, left, height, width), (top_, left_, height_, width_) = boxes.T, theirs.T
    _alike(height * width, height_ * width_)
    _alike(width / height, width_ / height_)
    _alike(top + left, top_ + left_)
    _alike(left + width / 2, left_ + width_ / 2)
    products = [(t[:, 2:] - t[:, 2:].double().mean(0)).prod(1) for t in (boxes, theirs)]  # height with width
    error = (products[1].std() * math.sqrt(2 / n)).item()
    assert products[0].mean().item() == pytest.approx(products[1].mean().item(), abs=5 * error)


def test_a_box_that_never_fits_is_the_whole_image():
    boxes = random_boxes(500, 32, ViewRecipe(scale=(1, 1), ratio=(1 / 3, 3)), _generator())
    assert ((boxes[:, 2:] == 32).all(1)).all()


def test_colour_strengths_are_distributed_as_torchvisions():
    recipe, n = ViewRecipe(jitter=1.0), 4000
    drawn = draw_view(n, 32, recipe, _generator())
    jitter = ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [
            ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(n)
        ]
    ours = torch.zeros_like(drawn.strengths).scatter(1, drawn.kinds, drawn.strengths)
    for column, strengths in enumerate((*ours.T, drawn.hue)):
        _alike(strengths, torch.tensor([t[column + 1] for t in theirs]))
    assert torch.corrcoef(torch.stack([*ours.T, drawn.hue])).fill_diagonal_(0).abs().max() < 5 / math.sqrt(n)


def test_blurs_are_distributed_as_torchvisions_and_happen_as_often_as_asked():
    n = 8000
    drawn = draw_view(n, 32, ViewRecipe(blur=0.3, blur_sigma=(0.1, 2.0)), _generator())
    assert drawn.sigma is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor([GaussianBlur.get_params(0.1, 2.0) for _ in range(n)])
    _alike(drawn.sigma[drawn.sigma > 0], theirs)
    assert (drawn.sigma > 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert draw_view(n, 32, ViewRecipe(), _generator()).sigma is None


def test_everything_happens_as_often_as_asked_and_apart_from_the_rest():
    n = 20_000
    recipe = ViewRecipe(flip=0.5, jitter=0.3, grey=0.2, blur=0.4, solarise=0.1)
    drawn = draw_view(n, 32, recipe, _generator())
    assert drawn.sigma is not None
    jittered = drawn.hue != 0
    assert torch.equal(jittered, (drawn.strengths != 1).all(1))
    events = torch.stack([drawn.flips, jittered, drawn.grey, drawn.sigma > 0, drawn.solar]).double()
    for event, probability in zip(events, (0.5, 0.3, 0.2, 0.4, 0.1), strict=True):
        assert event.mean().item() == pytest.approx(probability, abs=5 * math.sqrt(probability / n))
    assert torch.corrcoef(events).fill_diagonal_(0).abs().max() < 5 / math.sqrt(n)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 24])
def test_all_orders_of_the_four_operations_are_alike_also_in_small_batches(count):
    """torchvision draws a permutation of four; here the hue shift has a place among the other three."""
    orders: dict[tuple[int, ...], int] = dict.fromkeys(itertools.permutations(range(4)), 0)
    generator = _generator(7)
    for _ in range(2400 // count):
        drawn = draw_view(count, 8, ViewRecipe(), generator)
        for kinds, place in zip(drawn.kinds.tolist(), drawn.hue_places.tolist(), strict=True):
            orders[*kinds[:place], 3, *kinds[place:]] += 1
    assert chisquare(list(orders.values())).pvalue > 1e-4


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 64])
def test_groups_by_hue_place_are_of_one_size_and_hold_every_image_once(count):
    drawn = draw_view(count, 8, ViewRecipe(), _generator(count))
    groups = drawn.by_hue_place()
    assert len(groups) == 4
    assert {len(group) for group in groups} == {math.ceil(count / 4)}
    assert torch.cat(groups).sort().values.tolist() == list(range(4 * math.ceil(count / 4)))
    for place, group in enumerate(groups):
        assert (drawn.hue_places[group[group < count]] == place).all()
