"""Random views: pixel by pixel torchvision's and kornia's for what was drawn, and as a whole alike in distribution."""

import subprocess
import sys
from dataclasses import replace

import kornia
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torchvision import transforms
from torchvision.transforms import functional as tv

from nndl_suite.errors import ConfigError, DataError
from nndl_suite.representation.blur import blur_radius
from nndl_suite.representation.view_draws import ViewDraws, draw_view, random_boxes
from nndl_suite.representation.view_kernel import render_on_cpu
from nndl_suite.representation.views import ViewRecipe, crop_and_flip, random_views, render, views_of_part
from nndl_suite.training.processes import Part

PLAIN = ViewRecipe(scale=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0)
WILD = ViewRecipe(
    scale=(0.05, 1), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.4, grey=0.2, blur=0.5, solarise=0.4
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(b: int = 8, size: int = 16, seed: int = 9) -> torch.Tensor:
    """Noise, and some images of few colours: grey ones, and such with ties between channels."""
    images = torch.randint(0, 256, (b, 3, size, size), dtype=torch.uint8, generator=_generator(seed))
    images[::5] = images[::5, :1]
    images[1::5] = (images[1::5] > 127) * 255
    return images


def _on_cpu(images: torch.Tensor, draws: ViewDraws) -> torch.Tensor:
    b, _, size, _ = images.shape
    view = torch.empty(b, size, size, 3).permute(0, 3, 1, 2)
    render_on_cpu(images, draws, view)
    return view


# one view, pixel by pixel


def _torchvisions(image: torch.Tensor, draws: ViewDraws, i: int) -> torch.Tensor:
    size = image.shape[-1]
    view = tv.resized_crop(image, *draws.boxes[i].tolist(), [size, size], antialias=True)
    if draws.flips[i]:
        view = tv.hflip(view)
    operations = [
        ((tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)[kind], strength)
        for kind, strength in zip(draws.kinds[i].tolist(), draws.strengths[i].tolist(), strict=True)
    ]
    operations.insert(int(draws.hue_places[i]), (tv.adjust_hue, draws.hue[i].item()))
    for operation, strength in operations:
        view = operation(view, strength)
    if draws.grey[i]:
        view = tv.rgb_to_grayscale(view, 3)
    if draws.sigma is not None and draws.sigma[i] > 0:
        taps = 2 * blur_radius(size) + 1
        view = tv.gaussian_blur(view, [taps, taps], [draws.sigma[i].item()] * 2)
    return tv.solarize(view, 0.5) if draws.solar[i] else view


def _kornias(image: torch.Tensor, draws: ViewDraws, i: int) -> torch.Tensor:
    size = image.shape[-1]
    top, left, height, width = draws.boxes[i].tolist()
    view = image[None, :, top : top + height, left : left + width]
    view = kornia.geometry.transform.resize(view, (size, size), align_corners=False)
    if draws.flips[i]:
        view = kornia.geometry.transform.hflip(view)
    adjusts = (
        kornia.enhance.adjust_brightness_accumulative,
        kornia.enhance.adjust_contrast_with_mean_subtraction,
        kornia.enhance.adjust_saturation_with_gray_subtraction,
    )
    operations = [
        (adjusts[kind], strength)
        for kind, strength in zip(draws.kinds[i].tolist(), draws.strengths[i].tolist(), strict=True)
    ]
    operations.insert(int(draws.hue_places[i]), (kornia.enhance.adjust_hue, draws.hue[i].item() * 2 * torch.pi))
    for operation, strength in operations:
        view = operation(view, strength)
    if draws.grey[i]:
        view = kornia.color.rgb_to_grayscale(view).expand(-1, 3, -1, -1)
    if draws.sigma is not None and draws.sigma[i] > 0:
        sigma = draws.sigma[i].item()
        view = kornia.filters.gaussian_blur2d(view, 2 * blur_radius(size) + 1, (sigma, sigma))
    return (kornia.enhance.solarize(view, 0.5) if draws.solar[i] else view)[0]


@pytest.mark.parametrize("size", [8, 9, 32, 45])
def test_views_are_torchvisions_for_the_same_draws(size):
    b = 90
    images, draws = _images(b, size), draw_view(b, size, WILD, _generator(size))
    pixels = images.double() / 255
    expected = torch.stack([_torchvisions(pixels[i], draws, i) for i in range(b)])
    torch.testing.assert_close(render(pixels, draws), expected, atol=2e-6, rtol=0)  # its hue is exact to 5e-7
    torch.testing.assert_close(render(pixels.float(), draws), expected.float(), atol=5e-5, rtol=0)
    torch.testing.assert_close(_on_cpu(images, draws), expected.float(), atol=2e-5, rtol=0)


def test_views_are_kornias_for_the_same_draws():
    """It weights the luma by three digits, 0.299, 0.587 and 0.114, which strong contrasts make seen."""
    b = 60
    images, draws = _images(b, 32), draw_view(b, 32, WILD, _generator(1))
    expected = torch.stack([_kornias(image, draws, i) for i, image in enumerate(images.float() / 255)])
    gaps = (_on_cpu(images, draws) - expected).abs()
    assert gaps.max() < 2e-3
    assert gaps.mean() < 5e-5


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 9))
def test_the_kernel_is_its_float64_reference(seed, size, b):
    generator = _generator(seed)
    images, draws = _images(b, size, seed), draw_view(b, size, WILD, generator)
    torch.testing.assert_close(_on_cpu(images, draws), render(images.double() / 255, draws).float(), atol=2e-5, rtol=0)


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


# all views together


def _torchvision_views(image: torch.Tensor, recipe: ViewRecipe, n: int) -> torch.Tensor:
    size = image.shape[-1]
    jitter = transforms.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    blur = transforms.GaussianBlur(2 * blur_radius(size) + 1, recipe.blur_sigma)
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, recipe.scale, recipe.ratio),
            transforms.RandomHorizontalFlip(recipe.flip),
            transforms.RandomApply([jitter], recipe.jitter),
            transforms.RandomGrayscale(recipe.grey),
            transforms.RandomApply([blur], recipe.blur),
            transforms.RandomSolarize(0.5, recipe.solarise),
        ]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.stack([theirs(image) for _ in range(n)])


def _traits(views: torch.Tensor) -> dict[str, torch.Tensor]:
    """Numbers about each view that crops, flips, colours, blur and solarisation move."""
    grey = views.mean(1)
    return {
        **{name: views[:, c].mean((1, 2)) for c, name in enumerate(("red", "green", "blue"))},
        "spread": grey.flatten(1).std(1),
        "chroma": (views.amax(1) - views.amin(1)).mean((1, 2)),
        "left": grey[:, :, :8].mean((1, 2)) - grey[:, :, -8:].mean((1, 2)),
        "upper": grey[:, :8].mean((1, 2)) - grey[:, -8:].mean((1, 2)),
        "rough": (grey[:, 1:] - grey[:, :-1]).abs().mean((1, 2)),
        "corner": views[:, 0, 0, 0],
        "brightest": views.amax((1, 2, 3)),
    }


def test_views_are_distributed_as_torchvisions():
    """Two-sample tests with fixed seeds, of traits of the views and of every pixel's first two moments."""
    n, size = 1500, 24
    recipe = ViewRecipe(scale=(0.1, 1.0), hue=0.2, blur=0.5, solarise=0.3)
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    picture = torch.stack([0.9 * x, 0.7 * y, 0.5 + 0.4 * torch.sin(9 * x * y)])
    picture = (255 * (0.85 * picture + 0.15 * torch.rand(3, size, size, generator=_generator()))).to(torch.uint8)
    ours = random_views(picture.expand(n, -1, -1, -1).contiguous(), (recipe,), generator=_generator(5))[0]
    theirs = _torchvision_views(picture.float() / 255, recipe, n)
    for name, trait in _traits(theirs).items():
        assert ks_2samp(_traits(ours)[name].numpy(), trait.numpy(), method="asymp").pvalue > 1e-3, name
    for power in (1, 2):
        a, b = ours.double() ** power, theirs.double() ** power
        z = (a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / n).sqrt()  # [3, s, s], each near a standard normal
        assert z.abs().max() < 4.5
        assert z.square().mean() < 2


def test_views_of_nothing_are_the_images():
    images = _images(7)
    views = random_views(images, (PLAIN,) * 3, generator=_generator())
    assert views.shape == (3, 7, 3, 16, 16)
    for view in views:
        torch.testing.assert_close(view, images.float() / 255, atol=2e-6, rtol=0)


def test_each_view_shows_its_own_image():
    """Uniform images of different brightness survive any crop: row j of each view must be image j."""
    images = (torch.arange(100, dtype=torch.uint8) * 2)[:, None, None, None].expand(100, 3, 16, 16).contiguous()
    views = random_views(images, (ViewRecipe(jitter=0, blur=0.5),) * 2, generator=_generator())
    torch.testing.assert_close(views, (images.float() / 255).expand(2, -1, -1, -1, -1), atol=1e-3, rtol=0)


def test_each_view_has_its_own_recipe():
    images = _images(400)
    plain, solar, blurred = random_views(
        images, (PLAIN, replace(PLAIN, solarise=0.3), replace(PLAIN, blur=0.6)), generator=_generator()
    )
    torch.testing.assert_close(plain, images.float() / 255, atol=2e-6, rtol=0)
    for view, share in ((solar, 0.3), (blurred, 0.6)):
        changed = (view - plain).abs().flatten(1).amax(1) > 1e-3
        assert changed.float().mean().item() == pytest.approx(share, abs=0.08)
    changed = (solar - plain).abs().flatten(1).amax(1) > 1e-3
    torch.testing.assert_close(solar[changed], tv.solarize(plain[changed], 0.5))


def test_the_generator_alone_decides():
    images = _images()
    runs = []
    for caller in (1, 2):
        torch.manual_seed(caller)
        before = torch.get_rng_state()
        runs.append(random_views(images, (WILD,) * 2, generator=_generator(3)))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], random_views(images, (WILD,) * 2, generator=_generator(4)))
    assert not torch.equal(runs[0][0], runs[0][1])
    assert (runs[0] >= 0).all()
    assert (runs[0] <= 1).all()


def test_the_number_of_threads_changes_nothing():
    images = _images(61, 20)
    draws = draw_view(61, 20, WILD, _generator(3))
    threads, views = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            views.append(_on_cpu(images, draws))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[0], views[2])


def test_numbers_of_threads_stay_as_they_were():
    """Starting numba's threads sets torch's number to all cores where both use OpenMP; no caller must see that."""
    program = """if True:
        import torch
        from nndl_suite.representation.views import ViewRecipe, random_views
        torch.set_num_threads(1)
        images, generator = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.Generator()
        random_views(images, (ViewRecipe(),), generator=generator)
        assert torch.get_num_threads() == 1
        import numba
        assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS
        numba.set_num_threads(1)
        random_views(images, (ViewRecipe(),), generator=generator)
        assert numba.get_num_threads() == 1
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_views_lie_channels_last_and_the_images_stay():
    images = _images(6)
    before = images.clone()
    for recipe in (WILD, PLAIN):
        views = random_views(images, (recipe,) * 2, generator=_generator())
        assert views.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(random_views(last, (PLAIN,), generator=_generator()), views[:1])
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(4, 3, 8, 9, dtype=torch.uint8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(4, 3, 8, 8),
    ],
)
def test_what_cannot_be_viewed_is_refused(images):
    with pytest.raises(DataError, match=r"views want uint8 images \[b, 3, s, s\].*repeat a single channel three times"):
        random_views(images, (PLAIN,), generator=_generator())
    with pytest.raises(ConfigError, match="at least one recipe"):
        random_views(_images(), (), generator=_generator())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("b", [1, 7, 64])
def test_views_on_cuda_stay_there_and_are_the_reference(b):
    images = _images(b, 32).cuda()
    views = random_views(images, (WILD,) * 2, generator=torch.Generator("cuda").manual_seed(0))
    assert views.device.type == "cuda"
    generator = torch.Generator("cuda").manual_seed(0)
    for view in views:
        draws = draw_view(b, 32, WILD, generator)
        torch.testing.assert_close(view, render(images.double() / 255, draws).float(), atol=1e-4, rtol=0)


# of several processes, each sees its part of a batch


@pytest.mark.parametrize("count", [8, 10])
def test_parts_look_as_they_would_in_the_batch(count):
    images, recipes = _images(count), (WILD, PLAIN)
    whole = random_views(images, recipes, generator=_generator(3))
    half = count // 2
    for part in (Part(0, half, count), Part(half, count, count)):
        found = views_of_part(images[part.rows], recipes, part, generator=_generator(3))
        assert torch.equal(found, whole[:, part.rows])


@given(st.integers(0, 10**6))
def test_parts_on_other_devices_too(seed):
    images, draws = _images(9), draw_view(9, 16, WILD, _generator(seed))
    whole = render(images / 255, draws)
    for part in (Part(0, 3, 9), Part(3, 9, 9)):
        found = render(images[part.rows] / 255, draws.of(part))
        torch.testing.assert_close(found, whole[part.rows], rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_nothing_waits_for_the_gpu():
    images, generator = _images(64, 32).cuda(), torch.Generator("cuda").manual_seed(0)
    random_views(images, (WILD,) * 2, generator=generator)  # the first asks the device what it can do
    torch.cuda.set_sync_debug_mode("error")
    try:
        random_views(images, (WILD,) * 2, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
