"""How the error falls with the size of the pretraining set: a fitted law, and how far the points let it bend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy.optimize import least_squares

from nndl_suite.errors import ConfigError

Form = Literal["power law", "log-linear"]

_RESAMPLES = 400
_CURVE_POINTS = 41
_PARAMETERS = {"power law": 3, "log-linear": 2}
_LEAST, _MOST = (0.0, -1.0, 1e-3), (1.0, 10.0, 4.0)
"""Bounds of a, b and c. With a steeper exponent the smallest size alone would bend the curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingCurve:
    """The law, and its values between the smallest and the largest size."""

    form: Form
    """"power law": error = a + b * (n / largest)^-c. "log-linear": error = a - b * ln(n / largest)."""
    a: float
    b: float
    c: float | None
    rmse: float
    """Of the error, over the points."""
    images: tuple[float, ...]
    accuracy: tuple[float, ...]
    """1 - error, at `images`."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """95 % interval of the fitted accuracy at `images`, by resampled residuals."""


def fit_scaling_curve(sizes: Sequence[float], accuracies: Sequence[float], *, seed: int) -> ScalingCurve:
    """Fit error = a + b * n^-c (a >= 0, c > 0), or with fewer than four different sizes error = a - b * ln n.

    The interval is a residual bootstrap (Efron and Tibshirani 1993, 9.4): residuals, enlarged for the parameters that
    the fit has eaten, are dealt anew to the fitted values, and every such set of points is fitted again.

    Args:
        sizes: Images of each point.
        accuracies: Of each point, in [0, 1].
        seed: Decides the resampling.

    Raises:
        ConfigError: fewer than two different sizes, or as few points as parameters: any curve would fit.
    """
    n, error = np.asarray(sizes, dtype=np.float64), 1 - np.asarray(accuracies, dtype=np.float64)
    different = len(np.unique(n))
    if different < 2 or len(n) < 3:
        raise ConfigError(f"a curve needs >= 2 different sizes and >= 3 points, got {different} and {len(n)}")
    u = n / n.max()
    grid = np.geomspace(u.min(), 1.0, _CURVE_POINTS)
    form: Form = "power law" if different >= 4 and len(n) >= 5 else "log-linear"
    found = _fit(form, u, error)
    if found is None:
        form = "log-linear"
        found = _log_linear(u, error)
    fitted = _value(form, found, u)
    residuals = error - fitted
    spread = residuals * np.sqrt(len(n) / (len(n) - _PARAMETERS[form]))
    curves = [_value(form, found, grid)]
    draws = np.random.default_rng(seed)
    for _ in range(_RESAMPLES):
        again = _fit(form, u, fitted + draws.choice(spread - spread.mean(), len(n)), near=found)
        if again is not None:
            curves.append(_value(form, again, grid))
    low, high = np.quantile(np.stack(curves), (0.025, 0.975), axis=0)
    return ScalingCurve(
        form=form,
        a=float(found[0]),
        b=float(found[1]),
        c=float(found[2]) if form == "power law" else None,
        rmse=float(np.sqrt(np.mean(residuals**2))),
        images=tuple((grid * n.max()).tolist()),
        accuracy=tuple((1 - curves[0]).tolist()),
        low=tuple((1 - high).tolist()),
        high=tuple((1 - low).tolist()),
    )


def _value(form: Form, parameters: np.ndarray, u: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    if form == "power law":
        return _power(u, parameters[0], parameters[1], parameters[2])
    return parameters[0] - parameters[1] * np.log(u)


def _power(u: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return a + b * u**-c


def _fit(
    form: Form, u: Float64[np.ndarray, "n"], error: Float64[np.ndarray, "n"], near: np.ndarray | None = None
) -> np.ndarray | None:
    return _power_law(u, error, near) if form == "power law" else _log_linear(u, error)


def _power_law(u: np.ndarray, error: np.ndarray, near: np.ndarray | None) -> np.ndarray | None:
    """a, b, c by least squares, from a fit `near` by where there is one; None where it finds no minimum."""
    last = float(error[u == u.max()].mean())
    start = np.array([0.9 * last, max(1e-4, 0.1 * last), 0.5]) if near is None else near
    log_u = np.log(u)

    def slopes(p: np.ndarray) -> np.ndarray:
        falling = u ** -p[2]
        return np.stack([np.ones_like(u), falling, -p[1] * falling * log_u], axis=1)

    found = least_squares(
        lambda p: _power(u, p[0], p[1], p[2]) - error,
        np.clip(start, _LEAST, _MOST),
        jac=slopes,  # pyright: ignore[reportArgumentType] - scipy's hints know only its names of schemes
        bounds=(_LEAST, _MOST),
        ftol=1e-6,  # of the squared error: far below what the seeds leave uncertain
    )
    return np.asarray(found.x) if found.success else None


def _log_linear(u: np.ndarray, error: np.ndarray) -> np.ndarray:
    slope, intercept = np.polyfit(np.log(u), error, 1)
    return np.array([intercept, -slope])
