import pytest
import torch

from nndl_suite.data.classes import check_classes, check_same_classes
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


def test_the_same_classes_are_well():
    check_same_classes(_split([0, 1, 2], "abc"), _split([2, 0], "abc"))


@pytest.mark.parametrize(
    ("train", "train_names", "test", "test_names", "told"),
    [
        ([0, 1], "ab", [1, 0, 2], "abc", r"1 in the test split alone \('c', first in row 2\)"),
        ([0, 1, 2], "abc", [0, 1], "ab", r"1 in the training split alone \('c', first in row 2\)"),
        ([0, 1], "ab", [0, 1], "ac", r"training split alone \('b', first in row 1\) and 1 in the test split alone"),
        ([0, 1], "abx", [0, 1], "ab", r"1 in the training split alone \('x'\)"),
        ([0, 1], "ab", [0, 1], "ba", "label 0 is 'b' in the test split and 'a' in training"),
        ([0, 2], "abc", [0, 1], "abc", "1: 'b'"),
        ([1, 1, 1], "ab", [1], "ab", r"all 3 training images are of one class \('b'\)"),
        ([0], "a", [0], "a", "one class"),
    ],
)
def test_splits_of_different_classes_are_refused(train, train_names, test, test_names, told):
    with pytest.raises(DataError, match=told):
        check_same_classes(_split(train, train_names), _split(test, test_names))
