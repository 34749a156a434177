"""Whether the splits of a set mean the same by a label."""

import torch

from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import DataError


def check_same_classes(train: ImageSet, test: ImageSet) -> None:
    """Refuse splits that do not have the same classes, of which there must be two, under the same labels.

    Raises:
        DataError: the same as of `check_classes`, or a class is in one split alone, or is the only one.
    """
    only_train = [name for name in train.class_names if name not in set(test.class_names)]
    only_test = [name for name in test.class_names if name not in set(train.class_names)]
    if only_train or only_test:
        told = [
            f"{len(names)} in the {split} split alone ({', '.join(map(repr, names[:3]))}{_first_row(images, names)})"
            for split, images, names in (("training", train, only_train), ("test", test, only_test))
            if names
        ]
        raise DataError(
            f"{train.name}: training and test images must have the same classes, found {' and '.join(told)}; "
            f"mend the labels, or leave these classes out"
        )
    classes = torch.unique(train.required_labels()).tolist()
    if len(classes) < 2:
        raise DataError(
            f"{train.name}: all {len(train)} training images are of one class ({train.class_names[classes[0]]!r}); "
            f"there must be two to tell apart"
        )
    check_classes(train, test)


def _first_row(images: ImageSet, names: list[str]) -> str:
    """Where the first image of such a class is, for labels that are slips."""
    wanted = torch.tensor([label for label, name in enumerate(images.class_names) if name in set(names)])
    rows = torch.isin(images.required_labels(), wanted).nonzero()
    return f", first in row {int(rows[0])}" if len(rows) else ""


def check_classes(train: ImageSet, test: ImageSet) -> None:
    """Refuse a test split that asks for what no training image shows.

    Raises:
        DataError: a split has no labels, a label has another name in training, or no training image has it.
    """
    seen = set(torch.unique(train.required_labels()).tolist())
    asked: list[int] = torch.unique(test.required_labels()).tolist()
    for label in asked:
        theirs = test.class_names[label]
        ours = train.class_names[label] if label < len(train.class_names) else "no class"
        if theirs != ours and label in seen:
            raise DataError(
                f"{test.name}: label {label} is {theirs!r} in the test split and {ours!r} in training; "
                f"give both the same classes, in the same order (a class folder may be missing from one)"
            )
    missing = [label for label in asked if label not in seen]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{test.name}: {len(missing)} test classes have no training images "
            f"({', '.join(f'{label}: {test.class_names[label]!r}' for label in missing[:3])}{more}); "
            f"they could never be predicted: add training images, or leave these classes out of the test split"
        )
