"""Small trainings of every kind, which the tests of numbers share."""

from dataclasses import replace

import numpy as np
import torch

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.splits import Splits
from nndl_suite.data.batches import Batches
from nndl_suite.data.image_set import ImageSet, ResidentImages
from nndl_suite.models.backbones import build_backbone, build_classifier
from nndl_suite.models.normalisation import Normalisation
from nndl_suite.nerf.field import FieldSettings
from nndl_suite.nerf.gpu.trainer import GpuFieldTrainer
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.trainer import FieldTrainer, TrainSettings
from nndl_suite.representation.features import FeatureSource
from nndl_suite.representation.finetune import FinetuneSettings, FinetuneTraining
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.online_probe import OnlineProbe
from nndl_suite.representation.pretrain_config import PretrainConfig
from nndl_suite.representation.pretraining import Pretraining
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.seeds import isolated_rng

NORMALISATION = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
BACKBONE, SIZE, CLASSES = "resnet18-slim", 16, 4
PLAIN = Recipe(batch_size=8, rates=Rates(rate=1e-2, decay=0.01), warmup=0.0)
FIELD = FieldSettings(log2_rows=10, finest=128)
SCENE = TrainSettings(samples_per_step=96 * 24, field=FIELD)


def image_set(n: int = 32, seed: int = 0) -> ImageSet:
    """Noise with labels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % CLASSES
    return ImageSet(
        name="made", store=ResidentImages(pixels), labels=labels, class_names=tuple("abcd"), fingerprint="made"
    )


def pretraining(method: str, *, online: bool = False, **settings) -> Pretraining:
    """Of a slim ResNet, by a method's own recipe with a small projector."""
    described = METHODS[method]
    small = {} if described.labels else {"projector_dim": 32}
    config = PretrainConfig(method=method, backbone=BACKBONE, batch_size=8, warmup=0.0, **small, **settings)
    with isolated_rng(0):
        backbone = build_backbone(BACKBONE, image_size=SIZE)
        learner = described.build(backbone, config.recipe, CLASSES if described.labels else 0)
    fabric = make_fabric("cpu", "32-true")
    probe = OnlineProbe(feature_dim=backbone.feature_dim, num_classes=CLASSES, device="cpu") if online else None
    batches = Batches(image_set(), batch_size=8, seed=0, device=fabric.device)
    return Pretraining(config, learner, batches, NORMALISATION, fabric, probe)


def arm(recipe: Recipe = PLAIN, build=None) -> ArmTraining:
    """Of a comparison, or `train`."""
    build = build or (lambda: build_classifier(BACKBONE, num_classes=CLASSES, image_size=SIZE))
    architecture = Architecture(name="made", shape="made", parameters=1, flops=1, build=build)
    splits = Splits(train=image_set(), val=image_set(seed=1), test=image_set(seed=2), normalisation=NORMALISATION)
    return ArmTraining(architecture, recipe.rates, recipe, splits, seed=0, fabric=make_fabric("cpu", "32-true"))


def source() -> FeatureSource:
    """A backbone that knows nothing."""
    with isolated_rng(0):
        backbone = build_backbone(BACKBONE, image_size=SIZE)
    return FeatureSource(name="made", backbone=backbone, normalisation=NORMALISATION, resolution=SIZE)


def finetuning(rate: float = 1e-3) -> FinetuneTraining:
    """Of that backbone."""
    settings = FinetuneSettings(batch_size=8, learning_rate=rate)
    return FinetuneTraining(source(), image_set(), settings, seed=0, fabric=make_fabric("cpu", "32-true"))


def photos(count: int = 6, side: int = 12) -> PosedPhotos:
    """Noise, photographed from a ring about the origin."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    poses = np.stack([_look_at_origin(np.array([np.cos(a), np.sin(a), 0.5])) for a in angles])
    u, v = np.meshgrid((np.arange(side) + 0.5) / side - 0.5, (np.arange(side) + 0.5) / side - 0.5)
    directions = np.stack([u, v, np.full_like(u, 0.8)], axis=-1).reshape(-1, 3)
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    n = side * side
    return PosedPhotos(
        names=tuple(f"{i}.png" for i in range(count)),
        sizes=((side, side),) * count,
        pixels=np.random.default_rng(0).integers(0, 256, (count * n, 3), dtype=np.uint8),
        starts=np.arange(count + 1) * n,
        camera_of=np.zeros(count, np.int64),
        directions=directions,
        direction_starts=np.array([0, n]),
        field_from_camera=poses,
    )


def reconstruction(**settings) -> FieldTrainer:
    """On the CPU."""
    return FieldTrainer(photos(), replace(SCENE, **settings))


def reconstruction_on_device(**settings) -> GpuFieldTrainer:
    """By the code of a GPU."""
    return GpuFieldTrainer(photos(), replace(SCENE, **settings), torch.device("cpu"))


def _look_at_origin(position: np.ndarray) -> np.ndarray:
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward, position], axis=1).astype(np.float32)
