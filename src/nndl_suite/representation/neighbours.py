"""The images that features take for alike: some images, and those nearest to each, kept as small pictures."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.data.image_set import ImageSet
from nndl_suite.training.files import Json, write_json

_FILE = "neighbours.json"
_QUERIES, _NEAREST = 8, 5
_SIDE = 64  # pixels; larger images are reduced to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Images, and the features of each."""

    images: ImageSet
    features: Float[Tensor, "n d"]


def nearest(
    queries: Float[Tensor, "q d"], bank: Float[Tensor, "n d"], most: int
) -> tuple[Int64[Tensor, "q m"], Float[Tensor, "q m"]]:
    """The rows of the bank with the largest cosine to each query, the nearest first, and those cosines."""
    cosines = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T  # [q, n]
    found = cosines.topk(min(most, len(bank)), dim=1)
    return found.indices, found.values


def write_neighbours(folder: Path, asked: Described, bank: Described) -> None:
    """Write `neighbours.json` into a run folder: eight images and the five of the bank nearest to each.

    Which eight does not depend on the features: the first image of classes evenly spaced, or without labels images
    evenly spaced. Where both are the same set, an image is not its own neighbour.
    """
    chosen = _spread(asked.images)
    same = asked is bank
    found, cosines = nearest(asked.features[chosen], bank.features, _NEAREST + same)
    queries: list[Json] = []
    for place, row, values in zip(chosen.tolist(), found.tolist(), cosines.tolist(), strict=True):
        others = [(i, value) for i, value in zip(row, values, strict=True) if not (same and i == place)][:_NEAREST]
        near = [
            {**picture, "similarity": round(value, 4)}
            for picture, (_, value) in zip(_pictures(bank.images, [i for i, _ in others]), others, strict=True)
        ]
        queries.append({**_pictures(asked.images, [place])[0], "neighbours": cast(list[Json], near)})
    which = f"the other {len(bank.images) - 1:,}" if same else f"{len(bank.images):,} training"
    write_json(folder / _FILE, {"how": f"cosine of features, among {which} images", "queries": queries})


def _spread(images: ImageSet) -> Int64[Tensor, "q"]:
    count = min(_QUERIES, len(images))
    if images.labels is None:
        return torch.arange(count) * len(images) // count
    present = images.labels.unique()
    few = min(count, len(present))
    labels = present[torch.arange(few) * len(present) // few]
    return torch.stack([(images.labels == label).nonzero()[0, 0] for label in labels])


def _pictures(images: ImageSet, places: list[int]) -> list[dict[str, Json]]:
    if not places:
        return []
    pixels = images.store.read(torch.tensor(places, dtype=torch.int64))
    labels = [None] * len(places) if images.labels is None else images.labels[places].tolist()
    return [
        {"image": _thumbnail(image), "label": None if label is None else images.class_names[label]}
        for image, label in zip(pixels, labels, strict=True)
    ]


def _thumbnail(pixels: UInt8[Tensor, "3 h w"]) -> str:
    """As a URI that holds it; a kilobyte or two."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
