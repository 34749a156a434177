"""The notebooks run from a fresh kernel, and are kept without what they printed."""

import nbformat
import pytest
from doc_pages import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file, tmp_path):
    notebook = nbformat.read(file, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    here = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=here).execute()
    printed = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert "Warning" not in printed.replace("TqdmWarning: IProgress", "")  # a library's, where ipywidgets is missing
    assert printed
