"""The online linear probe: a classifier that learns beside the backbone, from its features and never back into it.

Its accuracy is not the linear protocol's: it is trained on features that still change, of augmented views. It can be
several points off, and is reported apart.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.errors import ConfigError
from nndl_suite.training.checkpoints import State
from nndl_suite.training.processes import average_gradients
from nndl_suite.training.schedules import warmup_cosine

LEARNING_RATE = 1e-3
"""Of Adam, whose steps are as long whatever the scale of the features, which differs between methods by orders."""


class OnlineProbe:
    """One linear layer in float32 under its own optimiser, one step a batch.

    It starts from zeros and draws nothing at random, and it takes features detached: a run ends in the same bits with
    it and without.
    """

    def __init__(self, *, feature_dim: int, num_classes: int, device: torch.device | str) -> None:
        """Start it.

        Raises:
            ConfigError: fewer than two classes.
        """
        if num_classes < 2:
            raise ConfigError(f"an online probe needs a set with >= 2 classes, got {num_classes}; leave it out")
        self._weight = torch.zeros(num_classes, feature_dim, device=device, requires_grad=True)
        self._bias = torch.zeros(num_classes, device=device, requires_grad=True)
        self._optimiser = torch.optim.Adam([self._weight, self._bias], lr=LEARNING_RATE)

    def step(self, features: Float[Tensor, "vb d"], labels: Int64[Tensor, "b"], fraction: float) -> dict[str, Tensor]:
        """Learn from one batch, of which each of several processes has a part.

        Args:
            features: Of every view of the batch, view after view, in any precision.
            labels: Of its images.
            fraction: Share of the run that is done, in [0, 1); the rate falls to 0 on half a cosine.

        Returns:
            `online_accuracy` on this batch before the step, a share in [0, 1], and `online_loss`; 0-d, detached.
        """
        x, y = features.detach().float(), labels.repeat(len(features) // len(labels))
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x, self._weight, self._bias)  # [vb, k]
            loss = F.cross_entropy(logits, y)
            loss.backward()
        average_gradients([self._weight, self._bias])
        self._optimiser.param_groups[0]["lr"] = LEARNING_RATE * warmup_cosine(fraction, 0.0)
        self._optimiser.step()
        self._optimiser.zero_grad()
        right = (logits.detach().argmax(dim=1) == y).float().mean()
        return {"online_loss": loss.detach(), "online_accuracy": right}

    @torch.no_grad()
    def accuracy(self, features: Float[Tensor, "n d"], labels: Int64[Tensor, "n"]) -> float:
        """The share of rows that it names rightly, on the features' device."""
        logits = F.linear(features.float(), self._weight.to(features.device), self._bias.to(features.device))
        return (logits.argmax(dim=1) == labels.to(features.device)).double().mean().item()

    def state(self) -> dict[str, State]:
        """Everything that steps change."""
        return {
            "weight": self._weight.detach(),
            "bias": self._bias.detach(),
            "optimiser": self._optimiser.state_dict(),
        }

    @torch.no_grad()
    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to a state."""
        self._weight.copy_(state["weight"])  # pyright: ignore[reportArgumentType]
        self._bias.copy_(state["bias"])  # pyright: ignore[reportArgumentType]
        self._optimiser.load_state_dict(state["optimiser"])  # pyright: ignore[reportArgumentType]


@contextmanager
def features_passing(backbone: nn.Module) -> Generator[list[Tensor], None, None]:
    """What the backbone gives inside, call by call, detached.

    To be put round the forward pass of a method, so that no image goes through the backbone twice. It does not see
    copies of the backbone, such as momentum teachers, that were made outside.
    """
    passed: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, features: Tensor) -> None:
        passed.append(features.detach())

    handle = backbone.register_forward_hook(note)
    try:
        yield passed
    finally:
        handle.remove()
