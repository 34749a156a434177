"""What one trained network is worth: its test images in one pass, and what that pass alone would not tell."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import cast

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from nndl_suite.comparison.corruptions import CORRUPTIONS
from nndl_suite.data.batches import own_in_order
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.splits import stratified_split
from nndl_suite.errors import RunError, TrainingError
from nndl_suite.training.files import Json
from nndl_suite.training.predictions import Predictions
from nndl_suite.training.processes import everywhere, summed
from nndl_suite.training.seeds import generator_for

Predict = Callable[[UInt8[Tensor, "b 3 h w"]], Float[Tensor, "b k"]]
"""A network as scoring sees it: images to logits, on the device where the images lie."""

_BINS = 15
_TOP = 5
_SEED = 0
"""Of the corruptions and of the training images that are scored: all networks see the same."""
_DRAWN_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkScores:
    """One network, scored once; shares in [0, 1]."""

    test_accuracy: float
    """Chance is 1 / classes."""
    top5: float | None
    """The label is among the five largest logits; None below six classes, where that says nothing."""
    ece: float
    """Expected calibration error of the softmax: 15 bins of equal width, mean absolute gap between confidence and
    accuracy, weighted by images."""
    nll: float
    """Mean negative log-likelihood of the labels, in nats; log(classes) for a network that knows nothing."""
    per_class: tuple[float | None, ...]
    """Accuracy by label; None for a class without test images."""
    train_accuracy: float
    """On unaugmented training images, a fixed stratified draw of at most as many as there are test images."""
    corruptions: Mapping[str, float]
    """Accuracy on corrupted copies of the test images, by corruption."""

    @property
    def gap(self) -> float:
        """Training minus test accuracy."""
        return self.train_accuracy - self.test_accuracy

    @property
    def corrupted(self) -> float:
        """Mean over the corruptions."""
        return fmean(self.corruptions.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmScore:
    """What one seed of one arm came to."""

    network: NetworkScores
    seconds: float
    """Training time, validation included; scoring is not."""
    images_per_second: float
    """Training images over those seconds."""


def _forget(_: Predictions) -> None:
    """Answers that nobody keeps."""


@torch.no_grad()
def accuracy_and_loss(
    predict: Predict, images: ImageSet, *, batch_size: int, device: torch.device | str
) -> tuple[float, float]:
    """Accuracy and mean cross-entropy on unaugmented images; waits for the device once.

    Of several processes each reads its share of the batches.
    """
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for batch in own_in_order(images, batch_size=batch_size, device=device):
        assert batch.labels is not None
        logits = predict(batch.images)
        correct += (logits.argmax(dim=1) == batch.labels).sum()
        loss += F.cross_entropy(logits, batch.labels, reduction="sum")
    return summed(correct).item() / len(images), summed(loss).item() / len(images)


@torch.no_grad()
def score_network(  # noqa: PLR0913 - what to score, on what, and who keeps the answers
    predict: Predict,
    *,
    train: ImageSet,
    test: ImageSet,
    batch_size: int,
    device: torch.device | str,
    keep: Callable[[Predictions], None] = _forget,
) -> NetworkScores:
    """All scores of a trained network; the test images are read once, and corrupted as they are read.

    Of several processes each reads its share of the batches.

    Args:
        predict: The network.
        train: A draw of it is scored, unaugmented.
        test: What the scores are of.
        batch_size: Images at once.
        device: Where `predict` wants them.
        keep: Takes what it said of each test image, in every process.

    Raises:
        TrainingError: a logit is not finite.
    """
    own_logits: dict[int, Tensor] = {}
    corrupted = {name: torch.zeros((), dtype=torch.int64, device=device) for name in CORRUPTIONS}
    for batch in own_in_order(test, batch_size=batch_size, device=device):
        index = int(batch.indices[0]) // batch_size
        assert batch.labels is not None
        own_logits[index] = predict(batch.images).float()
        for name, corrupt in CORRUPTIONS.items():
            copies = corrupt(batch.images, partial(_drawn, name, int(batch.indices[0])))
            corrupted[name] += (predict(copies).argmax(dim=1) == batch.labels).sum()
    of_clean = _of_all(own_logits, batch_size=batch_size, shape=(len(test), test.num_classes), device=device)
    if not of_clean.isfinite().all():
        raise everywhere(TrainingError("the trained network answers test images with numbers that are not finite"))
    labels = test.required_labels().to(of_clean.device)
    predicted = of_clean.argmax(dim=1)
    keep(Predictions(predicted=predicted.cpu().numpy(), labels=labels.cpu().numpy()))
    accuracy = (predicted == labels).double().mean().item()
    seen = accuracy_and_loss(predict, _sample(train, most=len(test)), batch_size=batch_size, device=device)
    return NetworkScores(
        test_accuracy=accuracy,
        top5=top_accuracy(of_clean, labels) if of_clean.shape[1] > _TOP else None,
        ece=calibration_error(of_clean, labels),
        nll=F.cross_entropy(of_clean.double(), labels).item(),
        per_class=class_accuracies(of_clean, labels),
        train_accuracy=seen[0],
        corruptions={name: summed(count).item() / len(test) for name, count in corrupted.items()},
    )


def _drawn(name: str, first: int, shape: torch.Size) -> Float[Tensor, "b 3 h w"]:
    """What is drawn for the images from the `first` on: drawn for so many at once, whatever the batches are."""
    start, stop = first // _DRAWN_AT_ONCE, -(-(first + shape[0]) // _DRAWN_AT_ONCE)
    blocks = [
        torch.randn(_DRAWN_AT_ONCE, *shape[1:], generator=generator_for(_SEED, name, block))
        for block in range(start, stop)
    ]
    return torch.cat(blocks)[first - start * _DRAWN_AT_ONCE :][: shape[0]]


def _of_all(
    own: Mapping[int, Tensor], *, batch_size: int, shape: tuple[int, int], device: torch.device | str
) -> Float[Tensor, "n k"]:
    """The rows of all batches, in order, from those of one's own by their places."""
    logits = torch.zeros(shape, device=device)
    for place, rows in own.items():
        logits[place * batch_size :][: len(rows)] = rows
    return summed(logits)


def top_accuracy(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """The share of images whose label is among the five largest logits."""
    # "micro": by image; torchmetrics' default is the mean over classes
    return multiclass_accuracy(logits, labels, num_classes=logits.shape[1], top_k=_TOP, average="micro").item()


def calibration_error(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """The expected calibration error of the softmax over 15 bins of equal width (https://arxiv.org/abs/1706.04599)."""
    probabilities = logits.softmax(dim=1)  # by us: torchmetrics takes logits that lie in [0, 1] for probabilities
    return multiclass_calibration_error(
        probabilities, labels, num_classes=logits.shape[1], n_bins=_BINS, norm="l1"
    ).item()


def class_accuracies(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> tuple[float | None, ...]:
    """The share of each class's images that are predicted right; None for a class without any."""
    k = logits.shape[1]
    images = torch.bincount(labels, minlength=k).tolist()
    right = torch.bincount(labels[logits.argmax(dim=1) == labels], minlength=k).tolist()
    return tuple(hits / count if count else None for hits, count in zip(right, images, strict=True))


def _sample(train: ImageSet, *, most: int) -> ImageSet:
    if len(train) <= most:
        return train
    return train.subset(stratified_split(train.required_labels(), held_out=most, seed=_SEED)[1])


def arm_fields(score: ArmScore) -> dict[str, Json]:
    """What an arm's `result.json` says of its score, the seconds apart."""
    network = cast(dict[str, Json], asdict(score.network))
    return {**network, "gap": score.network.gap, "images_per_second": score.images_per_second}


def read_arm_score(result: Mapping[str, Json], file: Path) -> ArmScore:
    """The score in an arm's `result.json`.

    Raises:
        RunError: an earlier version wrote it, or it is damaged.
    """
    wanted = [field.name for field in fields(NetworkScores)]
    missing = [name for name in (*wanted, "seconds", "images_per_second") if name not in result]
    if missing:
        raise RunError(
            f"{file} lacks {', '.join(missing)}: an earlier version wrote it; delete the file and --resume, "
            f"which scores the trained weights again and trains nothing"
        )
    try:
        return ArmScore(
            network=NetworkScores(
                test_accuracy=_number(result["test_accuracy"]),
                top5=_number_or_none(result["top5"]),
                ece=_number(result["ece"]),
                nll=_number(result["nll"]),
                per_class=tuple(map(_number_or_none, cast(list[Json], result["per_class"]))),
                train_accuracy=_number(result["train_accuracy"]),
                corruptions={
                    name: _number(share) for name, share in cast(dict[str, Json], result["corruptions"]).items()
                },
            ),
            seconds=_number(result["seconds"]),
            images_per_second=_number(result["images_per_second"]),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{file} is damaged ({error}); delete the file and --resume to score that arm again") from error


def _number(node: Json) -> float:
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise TypeError(f"expected a number, got {node!r}")
    return float(node)


def _number_or_none(node: Json) -> float | None:
    return None if node is None else _number(node)
