"""The documentation site: it builds, and what leads nowhere fails the build."""

import importlib
import re
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.runs import ROOT

import hffruits
from hffruits.cli.main import COMMANDS
from hffruits.data import DataArguments
from hffruits.training import FruitTrainingArguments, ModelArguments

STRICT = ("--quiet", "--fail-on-warning", "--keep-going")  # as `make docs`


def build(source: Path, output: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "sphinx", *STRICT, "-c", ROOT / "docs", source, output]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("site")
    built = build(ROOT, output)
    assert built.returncode == 0, built.stderr
    return output


def text_of(page: Path) -> str:
    parts: list[str] = []
    parser = HTMLParser()
    parser.handle_data = parts.append
    parser.feed(page.read_text(encoding="utf-8"))
    return "".join(parts)


@pytest.mark.slow
def test_the_site_has_every_flag_and_every_public_name(site: Path):
    text = text_of(site / "docs/reference/cli.html")
    for command, run in COMMANDS.items():
        about = run.__doc__.replace("`", "") if command != "train" else "Fine-tune an image model"
        assert f"hffruits {command}" in text and about in text, command
    for group in (DataArguments, ModelArguments, FruitTrainingArguments):
        for field in fields(group):
            assert f"--{field.name}" in text, field.name
    names = text_of(site / "docs/reference/api.html")
    for name in hffruits.__all__:
        assert name in names, name


@pytest.mark.slow
def test_pages_outside_docs_are_on_the_site_and_nothing_is_fetched(site: Path):
    for page in ("docs/index", "benchmarks/README", "CONTRIBUTING", "docs/quickstart"):
        html = (site / f"{page}.html").read_text(encoding="utf-8")
        for attribute in ('src="http', 'rel="stylesheet" type="text/css" href="http', "@import"):
            assert attribute not in html, (page, attribute)
    assert "docs/index.html" in (site / "index.html").read_text()
    assert "hffruits" in (site / "searchindex.js").read_text()


@pytest.mark.slow
def test_what_leads_nowhere_fails_the_build(tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(
        "# Fruits\n\n```{toctree}\nother\n```\n\n[page](none.md) [part](other.md#none)\n\n"
        "![image](none.png)\n\n{py:obj}`hffruits.data.none`\n"
    )
    (docs / "other.md").write_text("# Other\n")
    (docs / "lost.md").write_text("# In no menu\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    for reason in ("'none.md'", "'none'", "none.png", "hffruits.data.none", "any toctree"):
        assert reason in built.stderr, (reason, built.stderr)


SHELL = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PAGES = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), ROOT / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_pages_name_flags_that_there_are(page: Path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    flag_tables = importlib.import_module("flag_tables")
    text = "".join(SHELL.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    for line in re.findall(r"\bhffruits (?!-)\S.*", text):
        command, *words = line.split("#")[0].split()[1:]
        commands = [command, *(["train"] if command in ("preview", "find-lr", "search") else [])]
        known = {
            flag
            for name in commands
            for action in flag_tables.flags_of(name)
            for flag in action.option_strings
        }
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= known, line
