"""Seconds of training steps on a GPU, as they are and bare, beside the rate of a large matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import compare_window
import pretrain_speed
import torch
from compare_window import architecture, load

from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.splits import Splits
from nndl_suite.models.backbones import Stem
from nndl_suite.models.normalisation import measure_normalisation
from nndl_suite.representation.pretrain_config import PretrainConfig
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.files import Json

WARM_STEPS = 10
BACKWARD = 3
"""FLOPs of forward and backward together, in those of forward."""


def seconds_a_step(step: Callable[[int], object], seconds: float) -> float:
    """Mean over about `seconds`; the device is waited for at the beginning and the end only."""
    for index in range(WARM_STEPS):
        step(index)
    torch.cuda.synchronize()
    start = time.perf_counter()
    step(WARM_STEPS)
    torch.cuda.synchronize()
    count = max(5, round(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for index in range(count):
        step(WARM_STEPS + 1 + index)
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def ceilings() -> dict[str, Json]:
    """What the card does at best: bf16 products of random matrices, and a copy (bytes read and written)."""
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16).unbind()
    product = seconds_a_step(lambda _: a @ b, 0.5)
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    copy = seconds_a_step(lambda _: target.copy_(source), 0.5)
    return {
        "gpu": torch.cuda.get_device_name(),
        "bf16_tflops": 2 * 8192**3 / product / 1e12,
        "copy_tb_per_second": 2 * source.nbytes / copy / 1e12,
    }


def comparison_steps(name: str, *, batch: int, seconds: float, peak_tflops: float, compiled: bool) -> dict[str, Json]:
    """Steps of one arm as `compare` runs them, and bare ones (one batch that is ready) of the same network."""
    images, recipe, fabric = load("random"), Recipe(batch_size=batch, compile=compiled), make_fabric("cuda")
    arm = architecture(name, images)
    splits = Splits(train=images, val=images, test=images, normalisation=measure_normalisation(images))
    training = ArmTraining(arm, recipe.rates, recipe, splits, seed=0, fabric=fabric)
    ours = seconds_a_step(lambda index: training.step(index, 0.5), seconds)
    del training
    step = compare_window.bare_step(arm, images, recipe, fabric)
    bare = seconds_a_step(lambda _: step(), seconds)
    rate = BACKWARD * arm.flops * batch
    return {
        "arm": name, "network": arm.shape, "parameters": arm.parameters, "batch": batch, "compiled": compiled,
        "images_per_second": batch / ours, "bare_images_per_second": batch / bare, "of_bare": bare / ours,
        "tflops": rate / ours / 1e12, "of_matrix_product": rate / ours / 1e12 / peak_tflops,
    }  # fmt: skip


def pretraining_steps(*, stem: Stem, batch: int, seconds: float) -> dict[str, Json]:
    """SimCLR's steps as `ssl pretrain` runs them, and bare ones on ready views; images, not views, a second."""
    images, config = load("random"), PretrainConfig(stem=stem, batch_size=batch, device="cuda")
    learning = pretrain_speed.pretraining(images, config)
    ours = seconds_a_step(lambda index: learning.step(index, 0.5), seconds)
    views = seconds_a_step(lambda index: learning._views(learning._batches.at(index).images, index), seconds / 4)
    del learning
    bare = seconds_a_step(pretrain_speed.bare_step(images, config), seconds)
    return {
        "stem": stem, "batch": batch, "images_per_second": batch / ours, "bare_images_per_second": batch / bare,
        "of_bare": bare / ours, "view_pairs_per_second": batch / views,
    }  # fmt: skip
