"""The quickstart notebook, run from its first cell to its last against a Hub."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from support.runs import ROOT

from hffruits.data.samples import samples_dir

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_ends_with_a_pushed_model(local_hub, tmp_path: Path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    name_own_folder(notebook, tmp_path / "photos")
    for name, value in local_hub.environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    options = {"resources": {"metadata": {"path": str(tmp_path)}}, "timeout": 300}
    NotebookClient(notebook, **options).execute()
    repo = local_hub.repos["model", "user/fruits-quickstart"]
    assert repo.private and "model.safetensors" in repo.files
    (predicted,) = [cell for cell in notebook.cells if "fruits.explain(photo)" in cell.source]
    label = predicted.outputs[0]["text"].split()[0]
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert f"'label': '{label}'" in last.outputs[-1]["data"]["text/plain"]


def name_own_folder(notebook: NotebookNode, folder: Path) -> None:
    """Put a folder of four kinds in the place of the sample photos, as the text says one may."""
    for kind in ("Avocado", "Banana", "Lemon", "Lime"):
        shutil.copytree(samples_dir() / "Fruit" / kind, folder / kind)
    (cell,) = [cell for cell in notebook.cells if "photos = samples_dir()" in cell.source]
    own = f"from pathlib import Path\n\nphotos = Path({str(folder)!r})"
    cell.source = cell.source.replace("photos = samples_dir()", own)


def test_the_notebook_is_short_and_names_no_place_of_its_own():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert sum(cell.cell_type == "code" for cell in notebook.cells) <= 12
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "127.0.0.1" not in text and "/tmp" not in text and "hf_" not in text
