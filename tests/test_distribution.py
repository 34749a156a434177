"""The wheel and the sdist: what is in them, that they are small, and that anybody builds the same bytes."""

import ast
import hashlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import nndl_suite

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MIB = 2**20


def build(out: Path, epoch: int) -> Path:
    # The backend itself: `python -m build` would fetch it into an environment of its own first.
    environment = {"SOURCE_DATE_EPOCH": str(epoch), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("dist"), 1_700_000_000)


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(built) -> Path:
    return next(built.glob("*.tar.gz"))


def in_wheel(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_all_of_the_package_and_nothing_else(wheel):
    names = in_wheel(wheel)
    source = ROOT / "src"
    ours = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in path.as_posix()
    }
    others = {name for name in names if not name.startswith("nndl_suite/")}
    assert set(names) - others == {name for name in ours if name.startswith("nndl_suite/")}
    info = f"nndl_suite-{nndl_suite.__version__}.dist-info"
    assert others == {
        f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }


def test_types_and_templates_are_in_the_wheel_and_data_is_not(wheel):
    names = in_wheel(wheel)
    assert "nndl_suite/py.typed" in names
    templates = [path.name for path in (ROOT / "src").rglob("*.j2")]
    assert templates
    assert all(any(name.endswith(f"/{template}") for name in names) for template in templates)
    kinds = {Path(name).suffix for name in names if name.startswith("nndl_suite/")}
    assert kinds <= {".py", ".j2", ".css", ".js", ".typed"} | {""}, kinds


def test_both_are_small(wheel, sdist):
    assert wheel.stat().st_size < MIB, "the wheel holds code and templates alone"
    assert sdist.stat().st_size < 5 * MIB


def test_the_sdist_has_what_builds_tests_and_explains_it(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "PKG-INFO"):
        assert name in names, name
    for name in ("src/nndl_suite/py.typed", "tests/smoke_wheel.py", "docs/results.md", "benchmarks/results_page.py"):
        assert name in names, name
    stray = [
        name
        for name in names
        if re.search(r"__pycache__|\.pyc$|(^|/)\.(?!gitignore)|^runs/|\.pth$|\.safetensors$", name)
    ]
    assert not stray, stray


def test_whoever_builds_it_when_and_where_gets_the_same_bytes(built, tmp_path):
    again = build(tmp_path, 1_700_000_000)
    digests = [
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        for folder in (built, again)
    ]
    assert len(digests[0]) == 2
    assert digests[0] == digests[1]


def test_the_time_of_the_commit_is_the_files_time(wheel, sdist):
    with tarfile.open(sdist) as archive:
        assert {int(member.mtime) for member in archive.getmembers()} == {1_700_000_000}
    with zipfile.ZipFile(wheel) as archive:
        assert {member.date_time[:3] for member in archive.infolist()} == {(2023, 11, 14)}


def test_the_metadata_is_what_an_index_takes(built, wheel):
    twine = pytest.importorskip("twine.commands.check", reason="twine comes with the extra dev")
    assert not twine.check([str(file) for file in built.iterdir()], strict=True)
    info = f"nndl_suite-{nndl_suite.__version__}.dist-info/METADATA"
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(info).decode())
    assert metadata["Version"] == nndl_suite.__version__ == PROJECT["version"]
    assert metadata["License-Expression"] == "MIT"
    assert f"version: {nndl_suite.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()


def test_the_lowest_set_is_that_of_the_project_file():
    extras = PROJECT["optional-dependencies"].values()
    plain, others = (
        dict(re.match(r"([\w-]+)(?:\[\w+\])?>=([\w.]+)", bound).groups() for bound in bounds)
        for bounds in (PROJECT["dependencies"], [bound for extra in extras for bound in extra])
    )
    lines = (ROOT / "tests" / "lowest-constraints.txt").read_text(encoding="utf-8").splitlines()
    stated = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {name: stated.get(name) for name in plain} == plain
    assert {name: version for name, version in stated.items() if name in others} == {
        name: version for name, version in others.items() if name in stated
    }


def imported() -> set[str]:
    """The distributions of all that `src` imports, at the top of a file or late."""
    names = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    of = packages_distributions()
    outside = names - set(sys.stdlib_module_names) - {"nndl_suite", "__main__"}
    return {re.sub("[-_.]+", "-", name).lower() for module in outside for name in of.get(module, [module])}


def test_the_package_depends_on_what_it_imports_and_on_nothing_else():
    plain = {re.match(r"[\w-]+", bound).group() for bound in PROJECT["dependencies"]}
    extras = {
        re.match(r"[\w-]+", bound).group()
        for name, bounds in PROJECT["optional-dependencies"].items()
        if name != "dev"
        for bound in bounds
    }
    through_others = {"fast-simplification", "kornia"}  # trimesh imports the one, tests compare with the other
    used = imported()
    assert plain - through_others <= used
    assert used <= plain | extras | {"triton", "lightning-fabric", "pillow", "sklearn", "websockets"}, (
        used - plain - extras
    )
