"""Which images of a set a pretraining reads, and how many steps it takes over them."""

from nndl_suite.data.splits import Split
from nndl_suite.errors import ConfigError
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.pretrain_config import PretrainConfig


def split_for(method: str) -> Split:
    """Which images of a set a method is trained on."""
    return "train" if METHODS[method].labels else "unlabelled"


def planned_steps(pretraining: PretrainConfig, images: int, dataset: str) -> int:
    """How many steps a pretraining will take.

    Raises:
        ConfigError: there are fewer images than one batch has.
    """
    per_epoch = images // pretraining.batch_size
    if per_epoch < 1:
        raise ConfigError(
            f"{dataset} has {images} images, less than one batch of {pretraining.batch_size}; lower the batch size"
        )
    return pretraining.steps or pretraining.epochs * per_epoch
