from importlib.metadata import PackageNotFoundError

import pytest

from nndl_suite.doctor.requirements import EXTRAS, check_extras, check_python, check_requirements


def installed(versions):
    def version(name):
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    return version


STATED = ["torch>=2.11", "pycolmap<5,>=4.2", 'viser>=1.0; extra == "viewer"', 'pywin32; sys_platform == "none"']


@pytest.mark.parametrize(
    ("versions", "state", "said", "cure"),
    [
        ({"torch": "2.11.0", "pycolmap": "4.2.1"}, "ok", "all 2", None),
        ({"torch": "2.12.0+cpu", "pycolmap": "4.2.1"}, "ok", "all 2", None),
        ({"torch": "2.9.1", "pycolmap": "4.2.1"}, "fail", "torch 2.9.1 is not >=2.11", 'pip install "torch>=2.11"'),
        ({"torch": "2.11.0"}, "fail", "pycolmap is missing", 'pip install "pycolmap<5,>=4.2"'),
        ({"torch": "2.11.0", "pycolmap": "5.0"}, "fail", "pycolmap 5.0 is not", 'pip install "pycolmap<5,>=4.2"'),
    ],
)
def test_packages_are_compared_with_what_is_asked_for(versions, state, said, cure):
    found = check_requirements(STATED, installed(versions))
    assert found.state == state
    assert said in found.found
    assert found.cure == cure


def test_a_checkout_that_is_not_installed_says_so():
    assert check_requirements(None).state == "warn"


@pytest.mark.parametrize(
    ("version", "bits", "state"), [((3, 11), 64, "ok"), ((3, 10), 64, "fail"), ((3, 12), 32, "fail")]
)
def test_python_must_be_new_and_of_64_bits(version, bits, state):
    assert check_python(version, bits).state == state


def test_absent_extras_are_no_warning_but_say_how_to_get_them():
    rows = check_extras(lambda module: module != "gcsfs")
    assert [row.name for row in rows] == [f"extra {name}" for name in EXTRAS]
    assert {row.state for row in rows} == {"ok"}
    assert [row.cure for row in rows if row.cure] == ['pip install "nndl-suite[remote]"']
