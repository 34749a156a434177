"""What people hand to an estimator, NumPy or torch, made into tensors or refused with the reason."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nndl_suite.errors import DataError

Features = Tensor | np.ndarray
"""[n, d], floating point."""
Labels = Tensor | np.ndarray
"""[n], whole numbers."""

_SMALLEST, _LARGEST = 1e-15, 1e15
"""Of the largest feature."""
_UNFIT = (TypeError, ValueError, RuntimeError)
"""torch's words for an array of strings, of objects, or of ragged rows."""


def as_features(x: Features) -> Float[Tensor, "n d"]:
    """Features as a tensor, float32 or float64, on their own device.

    Raises:
        DataError: they are not finite floating-point numbers of shape [n, d], or float32 cannot hold their squares.
    """
    features = _tensor(x, "features must be floating point of shape [n, d]")
    if features.ndim != 2 or not features.is_floating_point() or not features.numel():
        raise DataError(f"features must be floating point of shape [n, d], got {features.dtype} {list(features.shape)}")
    broken = int((~features.isfinite()).any(dim=1).sum())
    if broken:
        raise DataError(
            f"features must be finite, got NaN or infinity in {broken} of {len(features)} rows; "
            f"look at the backbone or its input"
        )
    if features.dtype == torch.float64:
        return features
    features = features.float()
    check_size(features)
    return features


def check_size(features: Float[Tensor, "n d"]) -> None:
    """Refuse float32 features whose squares would be infinite or nothing: variances and lengths are made of them.

    Raises:
        DataError: they are of such a size.
    """
    largest = float(features.abs().max())
    if largest > 0 and not _SMALLEST <= largest <= _LARGEST:
        raise DataError(
            f"features must be of a size that float32 can square, {_SMALLEST:g} to {_LARGEST:g}, got {largest:.2g} as "
            "the largest; scale them, or give them in float64"
        )


def as_labels(y: Labels, rows: int) -> Int64[Tensor, "n"]:
    """Labels as a tensor, on their own device.

    Raises:
        DataError: they are not whole numbers of shape [rows].
    """
    told = f"labels must be whole numbers of shape [{rows}]"
    labels = _tensor(y, told)
    if labels.shape != (rows,) or labels.is_floating_point() or labels.is_complex():
        raise DataError(f"{told}, got {labels.dtype} {list(labels.shape)}")
    return labels.to(torch.int64)


def _tensor(values: Features | Labels, told: str) -> Tensor:
    if isinstance(values, np.ndarray) and not (values.flags.writeable and values.flags.c_contiguous):
        values = values.copy()  # torch warns of arrays that it must not write to, and refuses to read backwards
    try:
        return torch.as_tensor(values).detach()
    except _UNFIT as error:
        kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise DataError(f"{told}, got {kind} ({error})") from error
