"""The tutorial runs from start to end, and shows what it says."""

from __future__ import annotations

import jupytext
from nbclient import NotebookClient
from support.paths import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.py"


def test_the_tutorial_runs() -> None:
    notebook = jupytext.read(NOTEBOOK)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = {}
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "stream" or output.name == "stdout", output.text
            shown |= {kind: shown.get(kind, "") + str(text) for kind, text in output.get("data", {}).items()}
    tables = shown["text/html"]
    for words in ("<b>Bundle</b>", "<b>Trace</b>", "<b>Estimate</b>", "<b>Comparison</b>"):
        assert words in tables
    assert tables.count("not measured.</p>") == 2 and "set by the user" in tables
    assert shown["image/svg+xml"].count("<svg ") >= 2
    assert "did you mean loihi2?" in cells[-1].outputs[0].text
