"""Whether the splits of a set mean the same by a label."""

import torch

from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import DataError


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
