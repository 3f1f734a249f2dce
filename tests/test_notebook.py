"""The notebook in examples/ runs from the first cell to the last, and its output is current."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "search.ipynb"


def shown(notebook):
    """Return the kinds of output of each cell of code, without its progress."""
    return [
        [
            sorted(output["data"])
            for output in cell["outputs"]
            if output["output_type"] == "execute_result"
        ]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_every_cell_runs_and_shows_what_the_notebook_has(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = shown(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    assert shown(notebook) == stored
    kinds = [kind for outputs in stored for output in outputs for kind in output]
    assert kinds.count("image/png") == 3
    assert "text/html" in kinds  # the table of pandas
    assert (tmp_path / "best.toml").exists()
