"""Maps of images by their features: the plane in which those spread the most."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int64
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.data.image_set import ImageSet
from nndl_suite.representation.features import FeatureSource, extract_features
from nndl_suite.training.files import Json, write_json
from nndl_suite.training.watch import Watcher, ignore

_FILE = "embedding.json"
_MOST_IMAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMap:
    """Where each image lies in the plane of the first two principal components."""

    xy: Float[Tensor, "n 2"]
    explained: tuple[float, float]
    """Share of the standardised features' variance along either axis."""


def principal_plane(features: Float[Tensor, "n d"]) -> FeatureMap:
    """The first two principal components of standardised features.

    An exact singular value decomposition in float64: nothing is drawn. An axis has no direction of its own, so that
    towards its weightiest feature is taken.
    """
    x = features.double()
    std = x.std(dim=0, correction=0)
    x = (x - x.mean(dim=0)) / torch.where(std > 0, std, 1.0)
    n, d = x.shape
    x = F.pad(x, (0, max(0, 2 - d), 0, max(0, 2 - n)))  # a lone image, or a lone feature, has a plane too
    _, singular, axes = torch.linalg.svd(x, full_matrices=False)
    axes = axes[:2]
    weightiest = axes.abs().argmax(dim=1, keepdim=True)
    axes = axes * axes.gather(1, weightiest).sign()
    shares = (singular.square() / singular.square().sum().clamp_min(1e-300))[:2].tolist()
    return FeatureMap(xy=(x @ axes.T)[:n], explained=(shares[0], shares[1]))


def write_map(
    folder: Path, sources: Mapping[str, FeatureSource], images: ImageSet, fabric: Fabric, *, watch: Watcher = ignore
) -> None:
    """Write `embedding.json` into a run folder: the same test images mapped by each of the sources."""
    features = {name: extract_features(source, images, fabric, watch=watch) for name, source in sources.items()}
    write_map_of_features(folder, features, images, of="test images")


def write_map_of_features(
    folder: Path, features: Mapping[str, Float[Tensor, "n d"]], images: ImageSet, *, of: str
) -> None:
    """Write `embedding.json`: the same images mapped by each of the features, which are at hand already.

    Args:
        folder: The run.
        features: By the name of what made them.
        images: Whose features they are, with labels or without.
        of: What images these are, for a person.
    """
    maps: list[Json] = []
    for name, found in features.items():
        plane = principal_plane(found)
        xy = [[round(value, 4) for value in place] for place in plane.xy.tolist()]
        maps.append({"name": name, "explained": list(plane.explained), "xy": cast(list[Json], xy)})
    content: dict[str, Json] = {
        "method": "first two principal components of standardised features",
        "of": of,
        "labels": [] if images.labels is None else images.labels.tolist(),
        "maps": maps,
    }
    write_json(folder / _FILE, content)


def evenly_spread(count: int) -> Int64[Tensor, "m"]:
    """Places of at most 1,000 of so many images, evenly spaced: what a map can show and a page can carry."""
    shown = min(count, _MOST_IMAGES)
    return torch.arange(shown) * count // shown
