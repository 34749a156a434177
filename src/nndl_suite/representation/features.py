"""Frozen features: where they come from, and reading them off a whole image set."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.data.batches import in_order
from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.models.backbones import Backbone, Stem, build_backbone
from nndl_suite.models.normalisation import IMAGENET, Normalisation, measure_normalisation
from nndl_suite.models.weights import fitting_stem, imagenet_backbone, load_into, read_header, read_state_dict
from nndl_suite.representation.arrays import check_size
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.training.seeds import isolated_rng
from nndl_suite.training.watch import Step, Watcher, ignore

_PIXELS_PER_BATCH = {"cpu": 2**18, "cuda": 2**23}
"""Input pixels in a batch: as many as the caches (CPU) or the multiprocessors (CUDA) like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSource:
    """A backbone with all that is needed to use it as it was meant."""

    name: str
    """"imagenet", "random", or the path of the run or file."""
    backbone: Backbone
    normalisation: Normalisation
    resolution: int
    """Pixels; images are resized to it."""


def load_feature_source(
    spec: str | Path | PretrainRun,
    images: ImageSet,
    *,
    backbone: str = "resnet18",
    stem: Stem = "auto",
    resolution: int | None = None,
    seed: int = 0,
) -> FeatureSource:
    """The backbone behind a name.

    Args:
        spec: A pretraining run or its folder; a state-dict file; "imagenet", torchvision's weights; or "random", an
            untrained network.
        images: The training images to be described. They decide the default resolution, and the normalisation of a
            random backbone.
        backbone: Which network the weights are of. Runs and files written by this package know it themselves.
        stem: Likewise; `auto` reads it off the weights, or for "random" off the resolution.
        resolution: Pixels the images are resized to. None takes what the weights were trained at, where they say so.
            An ImageNet stem shrinks four times as much as a CIFAR stem, so its default is four times the images' size,
            at most 224: the same last map, and about the same cost.
        seed: Draws a random backbone.

    Raises:
        DataError: no such run or file, or the weights do not fit.
        RunError: the folder holds no finished pretraining run.
    """
    if resolution is not None and resolution < 8:
        raise ConfigError(f"resolution must be >= 8 pixels, got {resolution}")
    enlarged = resolution or min(224, 4 * images.image_size)
    if spec == "random":
        size = resolution or (enlarged if stem == "imagenet" else images.image_size)
        with isolated_rng(seed):
            network = build_backbone(backbone, stem=stem, image_size=size)
        return FeatureSource(
            name="random", backbone=network, normalisation=measure_normalisation(images), resolution=size
        )
    if spec == "imagenet":
        if stem == "cifar":
            raise ConfigError("ImageNet weights have the imagenet stem; leave stem at auto and set the resolution")
        with isolated_rng(seed):
            network = imagenet_backbone(backbone, image_size=enlarged)
        return FeatureSource(name="imagenet", backbone=network, normalisation=IMAGENET, resolution=enlarged)
    name = str(spec.path if isinstance(spec, PretrainRun) else spec)
    run = spec if isinstance(spec, PretrainRun) else PretrainRun.read(spec) if Path(spec).is_dir() else None
    file = Path(name) if run is None else run.checkpoint
    if not file.is_file():
        raise DataError(f"no features at {file}: give a pretraining run, a state-dict file, 'imagenet' or 'random'")
    return _from_file(file, name, images, backbone=backbone, stem=stem, resolution=resolution)


def _from_file(
    file: Path, name: str, images: ImageSet, *, backbone: str, stem: Stem, resolution: int | None
) -> FeatureSource:
    header, weights = read_header(file), read_state_dict(file)
    if header is not None:
        backbone, stem, size = header.backbone, header.stem, resolution or header.image_size
    else:
        stem = fitting_stem(weights, stem)
        size = resolution or (images.image_size if stem == "cifar" else min(224, 4 * images.image_size))
    try:
        with isolated_rng(0):
            network = build_backbone(backbone, stem=stem, image_size=size)
    except ConfigError as error:
        if header is None:
            raise
        raise DataError(f"{file} describes a network that cannot be: {error}") from error
    load_into(network, weights, source=str(file))
    normalisation = IMAGENET if header is None else header.normalisation
    return FeatureSource(name=name, backbone=network, normalisation=normalisation, resolution=size)


def extract_features(
    source: FeatureSource, images: ImageSet, fabric: Fabric, *, watch: Watcher = ignore
) -> Float[Tensor, "n d"]:
    """The features of every image, in the set's order, on the CPU.

    The backbone is in eval mode and gets no gradients, and its bytes are compared before and after. It computes in the
    precision of `fabric`; the features are float32.

    Raises:
        DataError: a feature is not finite, or too large or small for arithmetic in float32.
    """
    device = fabric.device
    backbone = source.backbone.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    batch_size = max(1, _PIXELS_PER_BATCH[device.type] // source.resolution**2)
    features = torch.empty(len(images), backbone.feature_dim)
    with frozen(backbone), torch.inference_mode(), fabric.autocast():
        for batch in in_order(images, batch_size=batch_size, device=device):
            pixels = source.normalisation(resized(batch.images, source.resolution))
            found = backbone(pixels.contiguous(memory_format=torch.channels_last))
            features[batch.indices] = found.float().cpu()
            done = int(batch.indices[-1]) + 1
            watch(Step(stage=f"features of {images.name}", done=done, total=len(images)))
    broken = int((~features.isfinite().all(dim=1)).sum())
    if broken:
        raise DataError(
            f"features must be finite, got NaN or infinity for {broken} of {len(images)} images of {images.name} from "
            f"{source.name}; the weights are damaged, or need --precision 32-true"
        )
    check_size(features)
    return features


def resized(images: UInt8[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Images in [0, 1] at `size` pixels, bilinear with antialiasing."""
    pixels = images.float().div_(255)
    if pixels.shape[-1] == size:
        return pixels
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)


@contextmanager
def frozen(network: nn.Module) -> Generator[None]:
    """Eval mode inside, and proof afterwards that no weight and no running statistic moved by a bit.

    Raises:
        RuntimeError: one did; the features would depend on the order of the images.
    """
    was_training, before = network.training, weight_digests(network)
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
    changed = [name for name, digest in weight_digests(network).items() if digest != before.get(name)]
    if changed:
        raise RuntimeError(f"a frozen backbone changed while it was read: {', '.join(changed[:3])}")


def weight_digests(network: nn.Module) -> dict[str, bytes]:
    """A digest of every weight and every running statistic, by name."""
    return {
        name: hashlib.blake2b(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()
        for name, tensor in network.state_dict().items()
    }
