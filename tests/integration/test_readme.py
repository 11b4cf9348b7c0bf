"""README keeps to its size, its links lead somewhere, and its commands have the flags it names."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "docs/install.md",
    ROOT / "docs/training.md",
]


def shell_lines(text: str) -> list[str]:
    """Commands of its `sh` blocks, continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_readme_has_at_most_150_lines():
    assert len(README.splitlines()) <= 150


def test_readme_tables_have_at_most_eight_rows():
    for table in re.findall(r"(?:^\|.*\n)+", README, re.MULTILINE):
        assert len(table.splitlines()) - 2 <= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_of_the_repository(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_needs_the_path_of_the_environment(page):
    for line in shell_lines(page.read_text(encoding="utf-8")):
        assert ".venv/bin/" not in line.replace(". .venv/bin/activate", ""), line


@pytest.mark.slow
def test_commands_have_the_flags_that_the_pages_name():
    flags: dict[str, set[str]] = {}
    for page in PAGES:
        for line in shell_lines(page.read_text(encoding="utf-8")):
            words = shlex.split(line, comments=True)
            if words[:1] != ["hffruits"] or words[1].startswith("-"):
                continue
            for flag in [word for word in words[2:] if word.startswith("--")]:
                flags.setdefault(words[1], set()).add(flag)
    assert {"train", "push", "export"} <= set(flags)
    of_training = flags_of("train", "--help_all")
    for command, named in flags.items():
        known = flags_of(command, "--help")
        known |= of_training if "--flag" in known or command == "train" else set()
        assert named - {"--help"} <= known, command


def flags_of(command: str, help_flag: str) -> set[str]:
    words = [sys.executable, "-m", "hffruits", command, help_flag]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return set(re.findall(r"--[a-z][\w-]*", done.stdout))


def test_the_model_card_says_how_to_install_as_readme_does():
    card = (ROOT / "hffruits/models/templates/model_card.md.jinja").read_text(encoding="utf-8")
    assert "pip install -c constraints.txt ." in README
    assert "in a copy of its repository: pip install" in card
    assert "pip install hffruits" not in README + card
