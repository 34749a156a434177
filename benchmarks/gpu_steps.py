"""Seconds of training steps on a GPU, as they are and bare, beside the rate of a large matrix product."""

from __future__ import annotations

import compare_window
import pretrain_speed
from compare_window import architecture, load
from gpu_clock import seconds_a_step

from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.splits import Splits
from nndl_suite.models.backbones import Stem
from nndl_suite.models.normalisation import measure_normalisation
from nndl_suite.representation.pretrain_config import PretrainConfig
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.files import Json

BACKWARD = 3
"""FLOPs of forward and backward together, in those of forward."""


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
