"""What no reader may do, looked for in the source itself: run what a file says."""

import ast
from pathlib import Path

import pytest

import nndl_suite

ROOT = Path(nndl_suite.__file__).parent
_RUNS_WHAT_IT_READS = frozenset(
    ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml")
)
_BUILT_IN = frozenset(("eval", "exec", "compile"))
_CALLS = frozenset(("extractall", "_extract_tar", "unpack_archive", "system", "popen"))
_NAMES_PICKLES_ERROR = "models/weights.py"
"""Imports pickle for the name of an error; it has none of pickle's functions."""


def calls_in(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Every call by the last part of its name, with what stands before: "torch.load"."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def complaints(source: str, name: str) -> list[str]:
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"imports {module}" for module in modules if module.split(".")[0] in _RUNS_WHAT_IT_READS]
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle" and node.attr != "UnpicklingError":
            found.append(f"uses pickle.{node.attr}")
    for called, call in calls_in(tree):
        last = called.rpartition(".")[2]
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if called == "torch.load" and given.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if called in ("np.load", "npy.read_array", "numpy.load") and given.get("allow_pickle") != "False":
            found.append(f"{called} without allow_pickle=False")
        if (last in _CALLS and called != "platform.system") or called in _BUILT_IN:
            found.append(f"calls {called}")
        if given.get("shell") == "True":
            found.append(f"{called} with a shell")
    if name == _NAMES_PICKLES_ERROR:
        found.remove("imports pickle")
    return found


def test_nothing_runs_what_it_reads():
    found = {
        str(file.relative_to(ROOT)): told
        for file in sorted(ROOT.rglob("*.py"))
        if (told := complaints(file.read_text(encoding="utf-8"), str(file.relative_to(ROOT))))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "archive.extractall(folder)",
        "subprocess.run(words, shell=True)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert complaints(source, "x.py")


@pytest.mark.parametrize(
    "source", ["re.compile('a')", "torch.load(f, weights_only=True)", "np.load(f, allow_pickle=False)"]
)
def test_the_search_lets_pass_what_is_safe(source):
    assert complaints(source, "x.py") == []
