"""While heavy modules are imported no garbage is collected, and afterwards as before."""

import gc
import sys

import pytest

import hffruits
from hffruits.core.imports import import_module


@pytest.mark.parametrize("collects", [True, False])
def test_a_module_is_imported_without_collecting_garbage(tmp_path, monkeypatch, collects):
    (tmp_path / "heavy.py").write_text("import gc\nCOLLECTED = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    (gc.enable if collects else gc.disable)()
    try:
        assert not import_module("heavy").COLLECTED
        assert gc.isenabled() == collects
        with pytest.raises(ImportError):
            import_module("no_such_module_of_ours")
        assert gc.isenabled() == collects
    finally:
        gc.enable()
        sys.modules.pop("heavy", None)


def test_a_public_name_is_loaded_without_collecting_garbage(monkeypatch):
    seen = []
    monkeypatch.setattr(hffruits, "_load_name", lambda name: seen.append((name, gc.isenabled())))
    hffruits.__getattr__("train")  # as the first `hffruits.train` does
    assert seen == [("train", False)]
    assert gc.isenabled()
