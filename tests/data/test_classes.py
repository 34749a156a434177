import pytest
import torch

from nndl_suite.data.classes import check_classes
from nndl_suite.data.image_set import resident_set
from nndl_suite.errors import DataError


def _split(labels, names):
    labels = torch.tensor(labels)
    return resident_set("set", torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8), labels, names)


def test_fewer_classes_in_the_test_split_are_well():
    check_classes(_split([0, 1, 2], "abc"), _split([0, 2], "abc"))
    check_classes(_split([0, 1, 2], "abc"), _split([0, 1], "ab"))


@pytest.mark.parametrize(
    ("train", "train_names", "test", "test_names", "told"),
    [
        ([0, 1], "ab", [0, 2], "abc", "1 test classes have no training images .2: 'c'."),
        ([0, 2], "abc", [0, 1, 2], "abc", "1: 'b'"),
        ([0, 1, 2], "abc", [0, 1], "ac", "label 1 is 'c' in the test split and 'b' in training"),
    ],
)
def test_what_training_does_not_show_is_refused(train, train_names, test, test_names, told):
    with pytest.raises(DataError, match=told):
        check_classes(_split(train, train_names), _split(test, test_names))


def test_a_split_without_labels_is_refused():
    with pytest.raises(DataError, match="has no labels"):
        check_classes(_split([0, 1], "ab").without_labels(), _split([0], "ab"))
