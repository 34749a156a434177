"""Each run in three lines: what was asked, what came out, and how sure that is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from nndl_suite.report import words
from nndl_suite.report.pictures import as_interval, as_number, as_object
from nndl_suite.training.files import Json
from nndl_suite.training.intervals import student_interval

Result = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """For a person in a hurry."""

    asked: str
    """A question, in a sentence."""
    measure: str
    """What the value is of."""
    value: str
    interval: str
    """95 %; empty where there is none."""
    sure: str
    """What the interval covers, or why there is none."""


def answer(kind: str, result: Result) -> Answer | None:
    """Of a finished run; None for a kind that this page does not know.

    Raises:
        KeyError, TypeError: the result lacks something that its kind always has.
    """
    make = _ANSWERS.get(kind)
    return None if make is None else make(result)


def _pretrain(result: Result) -> Answer:
    knn = as_object(result.get("quality")).get("knn_accuracy")
    of = f" of {result['dataset']}" if "dataset" in result else ""
    last = result.get("warning")
    return Answer(
        asked=f"What does {result['method']} learn from the images{of}, without their labels?",
        measure="effective rank of the features" if knn is None else "neighbours' accuracy on training images",
        value=words.brief(result["effective_rank"]) if knn is None else words.percent(as_number(knn)),
        interval="",
        sure=f"Warning: {last}."
        if last
        else "No score: a look at the last features. A probe says what they are worth.",
    )


def _probe(result: Result) -> Answer:
    how = {"linear": "read by a linear classifier", "knn": "read by nearest neighbours", "finetune": "fine-tuned"}
    protocol = str(result["protocol"])
    asked = (
        f"How well do the features of {words.last_name(str(result['features']))} tell the classes of "
        f"{result['dataset']} apart, {how.get(protocol, protocol)}?"
    )
    return _tested_once(result, asked, "classifier")


def _training(result: Result) -> Answer:
    return _tested_once(result, f"What does {result['arm']} reach on {result['dataset']} by this recipe?", "network")


def _tested_once(result: Result, asked: str, what: str) -> Answer:
    return Answer(
        asked=asked,
        measure="test accuracy",
        value=words.percent(as_number(result["test_accuracy"])),
        interval=words.percent_interval(as_interval(result["test_accuracy_ci95"])),
        sure=f"One {what}{_on_images(result)}: the interval is what another test set of this size would do (Wilson). "
        "Other seeds are not in it.",
    )


def _comparison(result: Result) -> Answer:
    arms = [as_object(arm) for arm in cast(list[Json], result["arms"])]
    cnn, transformer = (str(arm["name"]) for arm in arms)
    seeds = max(len(cast(list[Json], arm["seeds"])) for arm in arms)
    on = f" on {result['dataset']}" if "dataset" in result else ""
    asked = f"Which does better{on} at equal size, recipe and tuning: {cnn} or {transformer}?"
    difference = as_object(result["difference"])
    ci95 = as_interval(difference.get("ci95"))
    sure = f"{words.counted(seeds, 'seed')} of each, paired: the interval is of the mean over seeds (Student's t)."
    if not difference:
        sure = "No seed was trained to the end with both."
    elif ci95 is None:
        sure = "One seed of each: no interval. Another seed may say otherwise."
    return Answer(
        asked=asked,
        measure=f"{transformer} minus {cnn}, points of test accuracy",
        value=words.points(as_number(difference["mean"])) if difference else "none",
        interval="" if ci95 is None else f"{words.points(ci95[0])} to {words.points(ci95[1])}",
        sure=sure,
    )


def _nerf(result: Result) -> Answer:
    test = as_object(result["test"])
    scores = [as_number(as_object(row)["psnr"]) for row in cast(list[Json], test["per_image"])]
    ci95 = student_interval(scores) if len(scores) > 1 else None
    return Answer(
        asked="How well does a field learned from some photos show what the others saw?",
        measure="PSNR on held-out photos",
        value=f"{as_number(test['psnr']):.2f} dB",
        interval="" if ci95 is None else f"{ci95[0]:.2f} to {ci95[1]:.2f} dB",
        sure=f"{words.counted(len(scores), 'photo')} that training never saw, one training: "
        + ("the interval is of the mean over photos (Student's t)." if ci95 else "no interval of one photo."),
    )


def _tuning(result: Result) -> Answer:
    best = as_object(result["best"])
    return Answer(
        asked=f"Which rates suit {result['arm']} on {result['dataset']}?",
        measure="validation accuracy of the best trial",
        value=words.percent(as_number(best["val_accuracy"])),
        interval="",
        sure=f"The best of {words.counted(len(cast(list[Json], result['trials'])), 'trial')}, so it flatters; the test "
        "images were not read.",
    )


def _study(result: Result) -> Answer:
    best = as_object(result["best"])
    rows = [as_object(row) for row in cast(list[Json], result["rows"])]
    row = next(row for row in rows if (row["name"], row["protocol"]) == (best["name"], best["protocol"]))
    return Answer(
        asked=f"What are learned features worth on {result['downstream']}, beside ImageNet's, random and scratch?",
        measure=f"test accuracy of the best row, {row['name']}",
        value=words.percent(as_number(row["mean"])),
        interval=words.percent_interval(as_interval(row["ci95"])),
        sure=f"{words.counted(len(cast(list[Json], result['seeds'])), 'seed')}; chosen by validation accuracy, so the "
        "test accuracy does not flatter.",
    )


def _scale(result: Result) -> Answer:
    sizes = [as_object(size) for size in cast(list[Json], result["sizes"])]
    largest = max(sizes, key=lambda size: as_number(size["images"]))
    return Answer(
        asked=f"What do more images buy {result['method']} on {result['downstream']}?",
        measure=f"test accuracy with {words.count(as_number(largest['images']))} images",
        value=words.percent(as_number(largest["mean"])),
        interval=words.percent_interval(as_interval(largest["ci95"])),
        sure=f"{words.counted(len(cast(list[Json], result['seeds'])), 'draw')} of the subsets.",
    )


def _sweep(result: Result) -> Answer:
    return Answer(
        asked=f"Which settings of {result['method']} give the best features for {result['downstream']}?",
        measure="test accuracy of the chosen combination",
        value=words.percent(as_number(result["test_mean"])),
        interval=words.percent_interval(as_interval(result["test_ci95"])),
        sure=f"Chosen among {words.counted(len(cast(list[Json], result['rows'])), 'combination')} by validation "
        "accuracy; test images were read for it alone.",
    )


def _on_images(result: Result) -> str:
    if "test_images" not in result:
        return ""
    return f" on {words.counted(round(as_number(result['test_images'])), 'test image')}"


_ANSWERS: dict[str, Callable[[Result], Answer]] = {
    "pretrain": _pretrain,
    "probe": _probe,
    "training": _training,
    "comparison": _comparison,
    "nerf": _nerf,
    "tuning": _tuning,
    "study": _study,
    "scale": _scale,
    "sweep": _sweep,
}
