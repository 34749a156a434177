"""One method under its optimiser, step by step."""

from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from nndl_suite.data.batches import Batches
from nndl_suite.models.normalisation import Normalisation
from nndl_suite.models.synchronised_norms import synchronise_norms
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.methods.method import SSLMethod
from nndl_suite.representation.online_probe import OnlineProbe, features_passing
from nndl_suite.representation.optimisers import make_optimiser
from nndl_suite.representation.pretrain_config import PretrainConfig
from nndl_suite.representation.views import random_views, views_of_part
from nndl_suite.training.checkpoints import State
from nndl_suite.training.processes import own_part
from nndl_suite.training.schedules import warmup_cosine
from nndl_suite.training.seeds import derived_seed, generator_for, isolated_rng


class Pretraining:
    """A `training.loop.Trainable`."""

    def __init__(  # noqa: PLR0913 - what a step needs
        self,
        config: PretrainConfig,
        method: SSLMethod,
        batches: Batches,
        normalisation: Normalisation,
        fabric: Fabric,
        online: OnlineProbe | None = None,
    ) -> None:
        """Put the method on the fabric's device, under the recipe's optimiser.

        Args:
            config: How to learn.
            method: What learns; it is moved.
            batches: Of images, with labels where the method or the online probe wants them; each process has its part.
            normalisation: Of the images.
            fabric: Decides device and precision.
            online: Learns beside the backbone.
        """
        self._online = online
        self._config, self._recipe, self._peak = config, config.recipe, config.peak_rate
        self._learns_from_labels = METHODS[config.method].labels
        self._method, self._batches, self._normalisation, self._fabric = method, batches, normalisation, fabric
        synchronise_norms(method)
        self._part = own_part(config.batch_size)
        method.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimiser = make_optimiser(method, self._recipe, rate=self._peak, momentum=config.momentum)
        self._wrapped, self._optimiser = fabric.setup(method, optimiser)

    def step(self, index: int, fraction: float) -> Mapping[str, Tensor | float]:
        """See `Trainable.step`."""
        rate = self._peak * warmup_cosine(fraction, self._config.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        batch = self._batches.at(index)
        views = self._views(batch.images, index)
        labels = batch.labels if self._learns_from_labels else None
        with (
            isolated_rng(derived_seed(self._config.seed, "method", index)),  # dropout, LeJEPA's directions
            features_passing(self._method.backbone) as passed,
        ):
            loss = self._wrapped(views, labels, fraction)
        self._fabric.backward(loss)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._method.after_step(fraction)
        beside: Mapping[str, Tensor] = {}
        if self._online is not None and batch.labels is not None:
            beside = self._online.step(torch.cat(passed), batch.labels, fraction)
        return {"loss": loss.detach(), "learning_rate": rate, **beside}

    def _views(self, images: Tensor, index: int) -> Tensor:
        generator = generator_for(self._config.seed, "views", index, images.device)
        look = random_views if self._part.is_whole else partial(views_of_part, part=self._part)
        views = look(images, self._recipe.views, generator=generator)  # [v, b, 3, h, w]
        flat = self._normalisation(views.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        return flat.unflatten(0, views.shape[:2])

    def state(self) -> dict[str, State]:
        """See `Trainable.state`."""
        online = {} if self._online is None else {"online": self._online.state()}
        return {"method": self._method.state_dict(), "optimiser": self._optimiser.state_dict(), **online}

    def load_state(self, state: Mapping[str, State]) -> None:
        """See `Trainable.load_state`."""
        self._method.load_state_dict(state["method"])  # pyright: ignore[reportArgumentType]
        self._optimiser.load_state_dict(state["optimiser"])  # pyright: ignore[reportArgumentType]
        if self._online is not None:
            self._online.load_state(cast(Mapping[str, State], state["online"]))
