"""Seconds of training steps on a GPU, as they are and bare, beside the rate of a large matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from compare_window import architecture, load
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.optimisers import make_optimiser
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.splits import Splits
from nndl_suite.data.batches import Batches
from nndl_suite.data.image_set import ImageSet
from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.normalisation import measure_normalisation
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.methods.method import SSLMethod
from nndl_suite.representation.pretrain_config import PretrainConfig
from nndl_suite.representation.pretraining import Pretraining
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.files import Json
from nndl_suite.training.seeds import isolated_rng

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
    with isolated_rng(0):
        network = arm.build().to(fabric.device, memory_format=torch.channels_last)
    if compiled:
        network.compile()
    bare = seconds_a_step(_bare_arm(network, images, recipe, fabric), seconds)
    rate = BACKWARD * arm.flops * batch
    return {
        "arm": name, "network": arm.shape, "parameters": arm.parameters, "batch": batch, "compiled": compiled,
        "images_per_second": batch / ours, "bare_images_per_second": batch / bare, "of_bare": bare / ours,
        "tflops": rate / ours / 1e12, "of_matrix_product": rate / ours / 1e12 / peak_tflops,
    }  # fmt: skip


def _bare_arm(network: nn.Module, images: ImageSet, recipe: Recipe, fabric: Fabric) -> Callable[[int], object]:
    size, count = images.image_size, recipe.batch_size
    batch = torch.randn(count, 3, size, size, device=fabric.device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(images.num_classes, (count,), device=fabric.device)
    optimiser = make_optimiser(network, recipe.optimiser, recipe.rates)

    def step(_: int) -> None:
        with fabric.autocast():
            logits = network(batch)
        optimiser.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        optimiser.step()

    return step


def pretraining_steps(*, stem: str, batch: int, seconds: float) -> dict[str, Json]:
    """SimCLR's steps as `ssl pretrain` runs them, and bare ones on ready views; images, not views, a second."""
    images, fabric = load("random"), make_fabric("cuda")
    config = PretrainConfig(stem=stem, batch_size=batch, device="cuda")
    batches = Batches(images, batch_size=batch, seed=0, device=fabric.device)
    learning = Pretraining(config, _method(config, images), batches, measure_normalisation(images), fabric)
    ours = seconds_a_step(lambda index: learning.step(index, 0.5), seconds)
    views = seconds_a_step(lambda index: learning._views(batches.at(index).images, index), seconds / 4)
    del learning
    bare = seconds_a_step(_bare_method(config, images, fabric), seconds)
    return {
        "stem": stem, "batch": batch, "images_per_second": batch / ours, "bare_images_per_second": batch / bare,
        "of_bare": bare / ours, "view_pairs_per_second": batch / views,
    }  # fmt: skip


def _method(config: PretrainConfig, images: ImageSet) -> SSLMethod:
    with isolated_rng(config.seed):
        backbone = build_backbone(config.backbone, stem=config.stem, image_size=images.image_size)
        return METHODS[config.method].build(backbone, config.recipe, 0)


def _bare_method(config: PretrainConfig, images: ImageSet, fabric: Fabric) -> Callable[[int], object]:
    method = _method(config, images).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(method.parameters(), lr=0.06, momentum=0.9)
    size, count = images.image_size, config.batch_size
    views: Tensor = torch.randn(2 * count, 3, size, size, device=fabric.device)
    views = views.contiguous(memory_format=torch.channels_last).unflatten(0, (2, count))

    def step(_: int) -> None:
        with fabric.autocast():
            loss = method(views, None, 0.5)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step
