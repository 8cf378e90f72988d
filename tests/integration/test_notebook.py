"""The notebook runs from top to bottom on the real data, with one epoch."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "convolutional_neural_networks.ipynb"


def printed_text(notebook):
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def test_notebook_runs(real_data, tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    parameters.source = parameters.source.replace("epochs = 10", "epochs = 1")
    assert "epochs = 1\n" in parameters.source + "\n"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    assert "before: 0 to 255, uint8" in printed_text(notebook)
    assert "after:  0.0 to 1.0, float32" in printed_text(notebook)
    assert "Test accuracy: " in printed_text(notebook)


def test_notebook_contains_outputs_of_a_full_run():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "Epoch 10/10" in printed_text(notebook)
    outputs = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert not any(x.output_type == "error" or x.get("name") == "stderr" for x in outputs)
    assert NOTEBOOK.stat().st_size < 1_000_000
