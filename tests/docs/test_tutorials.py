"""The tutorials run as they stand there, on a smaller copy of the demo set."""

import json

import pytest
from doc_pages import DOCS, run_page

from nndl_suite.data import demo_images
from nndl_suite.representation.methods import METHODS


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_images, "_COUNT", {"train": 500, "test": 100})


@pytest.mark.parametrize("name", ["representation", "comparison", "reconstruction"])
def test_a_tutorial_runs_as_it_stands_and_leaves_what_the_files_page_says(name, tmp_path):
    run_page(DOCS / "tutorials" / f"{name}.md")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    results = list((tmp_path / "runs").glob("*/result.json"))
    assert results
    described = (DOCS / "reference/files.md").read_text()
    for file in results:
        for key in json.loads(file.read_text()):
            assert f"`{key}`" in described, (file, key)


def test_the_method_that_the_page_adds_trains(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "closer", METHODS["simclr"])  # so that it is taken away again
    run_page(DOCS / "how-to/own-method.md")
    assert (tmp_path / "runs/closer/backbone.safetensors").exists()
