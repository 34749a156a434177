"""What a run logs, passed on to where people look at logs; `metrics.jsonl` stays the one source."""

from nndl_suite.logs.follow import Sink, following, pass_on
from nndl_suite.logs.rows import Row
from nndl_suite.logs.services import Trackio, Wandb
from nndl_suite.logs.tensorboard import TensorBoard

__all__ = ["Row", "Sink", "TensorBoard", "Trackio", "Wandb", "following", "pass_on"]
