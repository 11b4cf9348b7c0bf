"""`HfArgumentParser` is taken from its file only while that file needs nothing else."""

import importlib.util
import sys

import pytest

from hffruits.data import parser as parsing

USABLE = "import argparse\n\nclass HfArgumentParser(argparse.ArgumentParser):\n    mine = True\n"


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        (USABLE, True),
        (f"from .images import walk_files\n{USABLE}", False),  # we have such a module
        (f"from ..core import errors\n{USABLE}", False),
        (f"import argparse\nargparse.of_a_later_python\n{USABLE}", False),
        (f"unknown_name\n{USABLE}", False),
        ("class Renamed: pass\n", False),
    ],
)
def test_a_file_that_needs_more_of_its_package_is_left_to_the_import(
    source, taken, tmp_path, monkeypatch
):
    import transformers

    (tmp_path / "hf_argparser.py").write_text(source)
    spec = importlib.util.find_spec("transformers")
    monkeypatch.setattr(spec, "origin", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(sys, "modules", sys.modules | {"transformers": transformers})
    find = parsing._parser_class
    assert find() is transformers.HfArgumentParser  # imported already
    del sys.modules["transformers"]
    assert (find() is not transformers.HfArgumentParser) == taken
