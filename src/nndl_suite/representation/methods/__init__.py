"""Self-supervised methods: each turns random views of a batch into a loss.

A method is a module whose `forward` takes views [v, b, 3, h, w], normalised, and gives the loss; it holds the backbone
that is learned and whatever else it needs on the way, which is thrown away afterwards.
"""

from collections.abc import Callable

from torch import nn

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.simclr import SimCLR

METHODS: dict[str, Callable[[Backbone, float], nn.Module]] = {"simclr": SimCLR}
"""By name: the method around a backbone, at a temperature."""
