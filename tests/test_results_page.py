"""docs/results.md and the README's figures are what the script makes of the result files, and every file counts."""

import copy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import results_page  # noqa: PLC0415 - the folder is no package

    return results_page


def _scaled(value):
    """A copy with every fraction of a number changed by a tenth; counts, seeds and marks stay."""
    if isinstance(value, dict):
        return {key: _scaled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_scaled(inner) for inner in value]
    return value * 1.1 if isinstance(value, float) else value


def test_the_page_and_the_readme_are_what_the_script_makes(script):
    found = script.read(script.SOURCES)
    again = "python benchmarks/results_page.py"
    assert script.PAGE.read_text(encoding="utf-8") == script.page(found), again
    readme = script.README.read_text(encoding="utf-8")
    assert readme == script.with_main_lines(readme, script.main_lines(found)), again


def test_a_changed_figure_changes_the_page(script):
    found = script.read(script.SOURCES)
    page = script.page(found)
    for name in set(found) - {"scaling", "course_counts"}:  # scaling has a page of its own; counts are whole numbers
        changed = copy.copy(found) | {name: _scaled({**found[name], "load_before": 0, "load_after": 0})}
        changed[name].update({key: found[name][key] for key in ("load_before", "load_after") if key in found[name]})
        if name == "fox_against_nerfacto":  # whose marks must stay below what was reached
            changed[name]["ours"] = found[name]["ours"]
        assert script.page(changed) != page, name


def test_no_result_is_told_of_that_is_not_there(script):
    told = set(script.page(script.read(script.SOURCES)).split("benchmarks/results/")[1:])
    for file in {each.split("`")[0] for each in told} - {"*.json"}:
        assert (ROOT / "benchmarks" / "results" / file).exists(), file
