from collections import Counter

import pytest

from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.cifar100_superclasses import SUPERCLASSES, superclass_indices

# the coarse label of each fine label, in the order of CIFAR-100's own files (meta: fine and coarse names sorted)
COARSE = """4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15
13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1
2 15 6 0 17 8 14 13"""


def test_twenty_times_five_and_all_different():
    names = [name for members in SUPERCLASSES.values() for name in members]
    assert len(SUPERCLASSES) == 20
    assert set(map(len, SUPERCLASSES.values())) == {5}
    assert len(set(names)) == 100


def test_as_the_files_of_the_data_set_say():
    fine = sorted(name for members in SUPERCLASSES.values() for name in members)
    coarse = sorted(SUPERCLASSES, key=lambda name: name.replace("-", "_").replace(" ", "_"))
    expected = [int(number) for number in COARSE.split()]
    found = superclass_indices(fine)
    assert Counter(expected) == dict.fromkeys(range(20), 5)
    for place, name in enumerate(coarse):
        assert [label for label, of in enumerate(expected) if of == place] == sorted(found[name]), name


def test_other_classes_have_none():
    fine = sorted(name for members in SUPERCLASSES.values() for name in members)
    assert superclass_indices(fine[:-1] + ["unicorn"]) == {}
    assert superclass_indices(["a", "b"]) == {}
    turned = superclass_indices(fine[::-1])
    assert [fine[::-1][label] for label in turned["fish"]] == list(SUPERCLASSES["fish"])


@pytest.mark.realdata
def test_the_data_set_spells_its_classes_so(real_data):
    assert len(superclass_indices(load_image_set("cifar100", "test", data_root=real_data).class_names)) == 20
