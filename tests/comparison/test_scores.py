import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nndl_suite.comparison.corruptions import CORRUPTIONS
from nndl_suite.comparison.scores import (
    ArmScore,
    NetworkScores,
    accuracy_and_loss,
    arm_fields,
    calibration_error,
    class_accuracies,
    read_arm_score,
    score_network,
    top_accuracy,
)
from nndl_suite.data.image_set import ImageSet, ResidentImages
from nndl_suite.errors import RunError, TrainingError
from nndl_suite.training.seeds import generator_for

_CLASSES = 8


def _set(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(_CLASSES, (n,), generator=generator)
    return ImageSet(
        name="made", store=ResidentImages(pixels), labels=labels, class_names=tuple("abcdefgh"), fingerprint="made"
    )


_WEIGHT = torch.randn(3 * 64, _CLASSES, generator=torch.Generator().manual_seed(9)) / 30


def _predict(images):
    return (images.float() / 255 - 0.5).flatten(1) @ _WEIGHT


def _all(images):
    return images.store.read(torch.arange(len(images)))


def _scores(**changes):
    plain = {
        "test_accuracy": 0.5,
        "top5": 0.9,
        "ece": 0.1,
        "nll": 1.5,
        "per_class": (0.5, None),
        "train_accuracy": 0.8,
        "corruptions": {"noise": 0.25, "blur": 0.35},
    }
    return NetworkScores(**(plain | changes))


def test_calibration_by_a_loop_over_bins():
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(3000, 10, generator=generator)
    labels = torch.where(torch.rand(3000, generator=generator) < 0.6, logits.argmax(1), torch.arange(3000) % 10)
    confidence, right = (tensor.numpy() for tensor in logits.double().softmax(1).max(1))
    right = right == labels.numpy()
    expected = 0.0
    for lower in range(15):
        inside = (confidence > lower / 15) & (confidence <= (lower + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected > 0.05
    assert calibration_error(logits, labels) == pytest.approx(expected, abs=1e-5)


def test_logits_that_look_like_probabilities_are_logits_still():
    logits, labels = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1])
    confidence = [1 / (1 + math.exp(-0.8)), 1 / (1 + math.exp(-0.6))]
    assert calibration_error(logits, labels) == pytest.approx(1 - np.mean(confidence), abs=1e-6)


def test_top_five_by_sorting():
    generator = torch.Generator().manual_seed(2)
    logits, labels = torch.randn(500, 9, generator=generator), torch.randint(9, (500,), generator=generator)
    ranks = np.argsort(-logits.numpy(), axis=1)
    expected = np.mean([label in rank[:5] for label, rank in zip(labels.tolist(), ranks, strict=True)])
    assert top_accuracy(logits, labels) == pytest.approx(expected)


def test_accuracy_by_class():
    logits = torch.eye(4)[[0, 0, 1, 2, 2, 2]]
    labels = torch.tensor([0, 1, 1, 2, 2, 0])
    assert class_accuracies(logits, labels) == (0.5, 0.5, 1.0, None)


def test_a_networks_scores_are_those_of_its_images_one_by_one():
    train, test = _set(90, seed=3), _set(70, seed=4)
    scores = score_network(_predict, train=train, test=test, batch_size=32, device="cpu")
    logits, labels = _predict(_all(test)), test.required_labels()
    assert scores.test_accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert scores.nll == pytest.approx(F.cross_entropy(logits.double(), labels).item())
    assert scores.ece == pytest.approx(calibration_error(logits, labels))
    assert scores.top5 == pytest.approx(top_accuracy(logits, labels))
    assert len(scores.per_class) == _CLASSES
    assert set(scores.corruptions) == set(CORRUPTIONS)
    for name, corrupt in CORRUPTIONS.items():
        draw = partial(torch.randn, 256, 3, 8, 8)  # for 256 images at once, whatever the batches are
        drawn = draw(generator=generator_for(0, name, 0))[: len(test)]
        batches = [corrupt(_all(test), lambda shape, drawn=drawn: drawn)]
        expected = (_predict(torch.cat(batches)).argmax(1) == labels).double().mean().item()
        assert scores.corruptions[name] == pytest.approx(expected), name
    assert scores.gap == pytest.approx(scores.train_accuracy - scores.test_accuracy)
    assert scores.corrupted == pytest.approx(np.mean(list(scores.corruptions.values())))


def test_training_images_are_a_fixed_draw_no_larger_than_the_test_set():
    train, test = _set(300, seed=3), _set(80, seed=4)
    seen = []

    def predict(images):
        seen.append(len(images))
        return _predict(images)

    first = score_network(predict, train=train, test=test, batch_size=1000, device="cpu")
    assert seen == [80] * (1 + len(CORRUPTIONS)) + [80]
    again = score_network(_predict, train=train, test=test, batch_size=1000, device="cpu")
    assert again == first


def test_answers_that_are_no_numbers_are_refused():
    test = _set(10)
    with pytest.raises(TrainingError, match="not finite"):
        score_network(lambda images: _predict(images) * math.nan, train=test, test=test, batch_size=5, device="cpu")


def test_accuracy_and_loss_do_not_depend_on_the_batch():
    images = _set(50)
    whole, parts = (accuracy_and_loss(_predict, images, batch_size=size, device="cpu") for size in (50, 7))
    assert whole == pytest.approx(parts)


def test_an_arms_result_is_read_as_it_was_written(tmp_path):
    score = ArmScore(network=_scores(), seconds=12.5, images_per_second=400.0)
    written = {"seconds": 12.5, **arm_fields(score)}
    assert written["gap"] == pytest.approx(0.3)
    assert read_arm_score(written, tmp_path) == score


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ece": "high"}, "damaged"),
        ({"per_class": 3}, "damaged"),
        ({"corruptions": [1]}, "damaged"),
        ({"seconds": None}, "damaged"),
        ({"nll": True}, "damaged"),
    ],
)
def test_a_damaged_result_is_named(tmp_path, change, message):
    score = ArmScore(network=_scores(), seconds=12.5, images_per_second=400.0)
    with pytest.raises(RunError, match=message):
        read_arm_score({"seconds": 12.5, **arm_fields(score)} | change, tmp_path / "result.json")


def test_a_result_of_an_earlier_version_says_what_to_do(tmp_path):
    with pytest.raises(RunError, match=r"lacks top5, ece.*delete the file and --resume"):
        read_arm_score({"test_accuracy": 0.5, "seconds": 3.0, "images_per_second": 1.0}, tmp_path / "result.json")
