"""Methods whose images are the embeddings already: what is left is the loss."""

from dataclasses import replace

import torch
from torch import nn

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.methods.method import SSLMethod

DIM = 12
"""Of an image of 2 x 2 pixels."""


def bare(name: str, *, temperature: float | None = None) -> SSLMethod:
    """A method on flattened images, its heads left out; teachers see what students see."""
    described = METHODS[name]
    recipe = replace(described.recipe, projector_dim=16)
    if temperature is not None:
        recipe = replace(recipe, temperature=temperature)
    method = described.build(Backbone(nn.Flatten(), name="flat", stem="imagenet", feature_dim=DIM), recipe, 5)
    for head in ("projector", "predictor"):
        if hasattr(method, head):
            setattr(method, head, nn.Identity())
    if hasattr(method, "teacher"):
        method.teacher = nn.Flatten()
    return method


def embeddings(seed: int, *, views: int = 2, b: int = 5) -> torch.Tensor:
    """Images that are embeddings: [v, b, 3, 2, 2]."""
    return torch.randn(views, b, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def rows(images: torch.Tensor) -> list[list[list[float]]]:
    """The same as float64 vectors: [v][b][DIM]."""
    return images.flatten(2).double().tolist()
