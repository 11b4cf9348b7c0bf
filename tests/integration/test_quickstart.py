"""The quickstart notebook, run from its first cell to its last against a Hub."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support.runs import ROOT

from hffruits.data.synthetic import samples
from hffruits.data.synthetic.drawing import FRUITS

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_ends_with_a_pushed_model(local_hub, tmp_path: Path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    monkeypatch.setenv("HFFRUITS_CACHE", str(tmp_path / "cache"))
    draw_some_samples(tmp_path / "cache", monkeypatch)
    for name, value in local_hub.environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    options = {"resources": {"metadata": {"path": str(tmp_path)}}, "timeout": 300}
    NotebookClient(notebook, **options).execute()
    repo = local_hub.repos["model", "user/fruits-quickstart"]
    assert repo.private and "model.safetensors" in repo.files
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert "'label': 'Pear'" in last.outputs[-1]["data"]["text/plain"]


def draw_some_samples(cache: Path, monkeypatch) -> None:
    """Four fruits of the sample set instead of all, in less time."""
    some = {name: FRUITS[name] for name in ("Apple", "Banana", "Kiwi", "Pear")}
    monkeypatch.setattr(samples, "FRUITS", some)
    folder = cache / f"samples-v{samples.VERSION}"
    samples.write_samples(folder, train=32, validation=4, test=6, size=96, seed=0)


def test_the_notebook_is_short_and_names_no_place_of_its_own():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert sum(cell.cell_type == "code" for cell in notebook.cells) <= 12
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "127.0.0.1" not in text and "/tmp" not in text and "hf_" not in text
