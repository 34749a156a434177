"""Maps of images by their features: the plane in which those spread the most."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from nndl_suite.data.image_set import ImageSet
from nndl_suite.representation.features import FeatureSource, extract_features
from nndl_suite.training.files import Json, write_json
from nndl_suite.training.watch import Watcher, ignore

_FILE = "embedding.json"


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
    _, singular, axes = torch.linalg.svd(x, full_matrices=False)
    axes = axes[:2]
    weightiest = axes.abs().argmax(dim=1, keepdim=True)
    axes = axes * axes.gather(1, weightiest).sign()
    shares = (singular.square() / singular.square().sum().clamp_min(1e-300))[:2].tolist()
    return FeatureMap(xy=x @ axes.T, explained=(shares[0], shares[1]))


def write_map(
    folder: Path, sources: Mapping[str, FeatureSource], images: ImageSet, fabric: Fabric, *, watch: Watcher = ignore
) -> None:
    """Write `embedding.json` into a run folder: the same labelled images mapped by each of the sources."""
    maps: list[Json] = []
    for name, source in sources.items():
        plane = principal_plane(extract_features(source, images, fabric, watch=watch))
        xy = [[round(value, 4) for value in place] for place in plane.xy.tolist()]
        maps.append({"name": name, "explained": list(plane.explained), "xy": cast(list[Json], xy)})
    content: dict[str, Json] = {
        "method": "first two principal components of standardised features",
        "labels": images.required_labels().tolist(),
        "maps": maps,
    }
    write_json(folder / _FILE, content)
