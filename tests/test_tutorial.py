"""The tutorial notebook runs from beginning to end."""

import json

import pytest
from conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "tutorial.ipynb"


@pytest.mark.slow
def test_it_runs(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, 4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()


def test_it_is_kept_with_its_output_and_without_errors():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    outputs = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    assert any("image/png" in output.get("data", {}) for cell in outputs for output in cell)
    assert all(output["output_type"] != "error" for cell in outputs for output in cell)
