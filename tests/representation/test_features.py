"""Features are read off a backbone that is truly frozen, at the right size and scale."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from nndl_suite.data.image_set import resident_set
from nndl_suite.errors import ConfigError, DataError, RunError
from nndl_suite.models.backbones import Backbone, build_backbone
from nndl_suite.models.normalisation import IMAGENET, Normalisation
from nndl_suite.models.weights import save_backbone
from nndl_suite.representation.features import FeatureSource, extract_features, frozen, load_feature_source
from nndl_suite.training.fabric import make_fabric


@pytest.fixture
def images():
    pixels = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return resident_set("noise", pixels, torch.arange(9) % 3, ("a", "b", "c"))


def test_features_are_the_networks_own(images):
    reference = resnet18().eval()
    backbone = build_backbone("resnet18", stem="imagenet", image_size=64)
    backbone.trunk.load_state_dict(reference.state_dict(), strict=False)
    source = FeatureSource(name="x", backbone=backbone, normalisation=IMAGENET, resolution=64)
    found = extract_features(source, images, make_fabric("cpu", "32-true"))
    pixels = F.interpolate(images.store.pixels / 255, (64, 64), mode="bilinear", antialias=True)
    mean, std = torch.tensor(IMAGENET.mean)[:, None, None], torch.tensor(IMAGENET.std)[:, None, None]
    reference.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(found, reference((pixels - mean) / std), atol=1e-4, rtol=1e-4)
    assert backbone.training  # as it was found


def test_a_row_does_not_depend_on_its_neighbours(images):
    source = load_feature_source("random", images, backbone="resnet18-slim")
    fabric = make_fabric("cpu", "32-true")
    alone = torch.cat([extract_features(source, images.subset(torch.tensor([i])), fabric) for i in (4, 7)])
    torch.testing.assert_close(extract_features(source, images, fabric)[[4, 7]], alone, atol=1e-5, rtol=1e-4)


class _Thawed(nn.BatchNorm2d):
    """Batch norm that stays in training mode whatever one says."""

    def train(self, mode: bool = True):
        return super().train(True)


def test_a_backbone_that_is_not_frozen_is_caught(images):
    trunk = nn.Sequential(_Thawed(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = Backbone(trunk, name="thawed", stem="imagenet", feature_dim=3)
    source = FeatureSource(name="x", backbone=backbone, normalisation=IMAGENET, resolution=16)
    with pytest.raises(RuntimeError, match="trunk.0.running_mean"):
        extract_features(source, images, make_fabric("cpu", "32-true"))


def test_frozen_notices_a_weight_that_moved_by_one_bit():
    network = nn.Linear(4, 4)

    def nudge():
        with frozen(network), torch.no_grad():
            network.weight[0, 0] = torch.nextafter(network.weight[0, 0], torch.tensor(9.0))

    with pytest.raises(RuntimeError, match="weight"):
        nudge()


def test_random_features_are_the_seeds(images):
    a, b, c = (load_feature_source("random", images, backbone="resnet18-slim", seed=s) for s in (1, 1, 2))
    assert torch.equal(a.backbone.trunk.conv1.weight, b.backbone.trunk.conv1.weight)
    assert not torch.equal(a.backbone.trunk.conv1.weight, c.backbone.trunk.conv1.weight)
    assert (a.name, a.resolution, a.backbone.stem) == ("random", 16, "cifar")
    assert a.normalisation.mean[0] == pytest.approx((images.store.pixels[:, 0] / 255).mean().item(), abs=1e-4)


def test_a_file_from_elsewhere_gets_imagenets_normalisation_and_size(images, tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "w.pth")
    source = load_feature_source(tmp_path / "w.pth", images)
    assert (source.backbone.stem, source.resolution, source.normalisation) == ("imagenet", 64, IMAGENET)
    assert load_feature_source(tmp_path / "w.pth", images, resolution=32).resolution == 32


def test_a_file_of_ours_knows_itself(images, tmp_path):
    ours = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
    backbone = build_backbone("resnet18-slim", stem="imagenet", image_size=24)
    save_backbone(tmp_path / "b.safetensors", backbone, image_size=24, normalisation=ours)
    source = load_feature_source(tmp_path / "b.safetensors", images)
    assert (source.backbone.name, source.backbone.stem) == ("resnet18-slim", "imagenet")
    assert (source.resolution, source.normalisation) == (24, ours)


def test_features_that_are_not_finite_are_refused(images):
    source = load_feature_source("random", images, backbone="resnet18-slim")
    with torch.no_grad():
        source.backbone.trunk.layer4[1].bn2.bias[0] = float("inf")
    with pytest.raises(DataError, match=r"NaN or infinity for 9 of 9 images of noise from random"):
        extract_features(source, images, make_fabric("cpu", "32-true"))


def test_what_cannot_be_a_source_is_told_kindly(images, tmp_path):
    with pytest.raises(DataError, match="'imagenet' or 'random'"):
        load_feature_source("imagnet", images)
    with pytest.raises(RunError, match="holds no run"):
        load_feature_source(tmp_path, images)
    with pytest.raises(ConfigError, match="resolution"):
        load_feature_source("random", images, resolution=2)
    with pytest.raises(ConfigError, match="imagenet stem"):
        load_feature_source("imagenet", images, stem="cifar")
