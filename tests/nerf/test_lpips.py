"""LPIPS against torchmetrics fed with the same weights, and what is said where there are none."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

from nndl_suite.data.catalog import default_data_root
from nndl_suite.errors import DataError
from nndl_suite.nerf.lpips import Lpips, NoLpips, find_lpips


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A data root whose SqueezeNet is random, as in no paper: the arithmetic is the same."""
    torch.manual_seed(0)
    (tmp_path / "weights").mkdir()
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "weights/squeezenet1_1.pth")
    return tmp_path


def theirs(weights: Path, ours: Tensor, photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> float:
    """torchmetrics' own value, its download replaced by our file."""
    build = torchvision.models.squeezenet1_1

    def from_file(**_: object):
        net = build(weights=None)
        net.load_state_dict(torch.load(weights, weights_only=True))
        return net

    with monkeypatch.context() as patched:
        patched.setattr(torchvision.models, "squeezenet1_1", from_file)
        value = learned_perceptual_image_patch_similarity(ours, photo, net_type="squeeze", normalize=True)
    return float(value)


def pictures(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    photo = torch.rand(1, 3, height, width, generator=generator)
    return (photo + 0.2 * torch.randn(photo.shape, generator=generator)).clip(0, 1), photo


@pytest.mark.parametrize(("height", "width"), [(64, 48), (17, 33)])
def test_values_are_torchmetrics_own(made_up: Path, height: int, width: int, monkeypatch: pytest.MonkeyPatch):
    lpips = find_lpips(made_up)
    assert isinstance(lpips, Lpips)
    ours, photo = pictures(height, width)
    expected = theirs(made_up / "weights/squeezenet1_1.pth", ours, photo, monkeypatch)
    assert expected > 1e-3
    assert lpips.distance(ours, photo) == pytest.approx(expected, abs=1e-6)
    assert lpips.distance(photo, photo) == 0


@pytest.mark.realdata
@pytest.mark.skipif(
    not (default_data_root(None) / "weights" / "squeezenet1_1.pth").is_file(), reason="no SqueezeNet weights"
)
def test_values_of_the_published_weights(monkeypatch: pytest.MonkeyPatch):
    root = default_data_root(None)
    lpips = find_lpips(root)
    assert isinstance(lpips, Lpips)
    ours, photo = pictures(96, 128)
    expected = theirs(root / "weights/squeezenet1_1.pth", ours, photo, monkeypatch)
    assert expected > 0.01
    assert lpips.distance(ours, photo) == pytest.approx(expected, abs=1e-5)


def test_torchvisions_cache_is_found_too(made_up: Path):
    cache = made_up / "hub/checkpoints"
    cache.mkdir(parents=True)
    (made_up / "weights/squeezenet1_1.pth").rename(cache / "squeezenet1_1-b8a52dc0.pth")
    assert isinstance(find_lpips(made_up), Lpips)


def test_without_weights_the_places_are_named(tmp_path: Path):
    missing = find_lpips(tmp_path)
    assert isinstance(missing, NoLpips)
    assert str(tmp_path / "weights") in missing.reason
    assert str(tmp_path / "hub" / "checkpoints") in missing.reason


def test_weights_of_something_else_are_refused(made_up: Path):
    file = made_up / "weights/lpips_squeeze.pth"
    torch.save({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, file)
    with pytest.raises(DataError, match="heads of LPIPS"):
        find_lpips(made_up)
    file.unlink()
    torch.save(torchvision.models.squeezenet1_0(weights=None).state_dict(), made_up / "weights/squeezenet1_1.pth")
    with pytest.raises(DataError, match="squeezenet1_1"):
        find_lpips(made_up)
