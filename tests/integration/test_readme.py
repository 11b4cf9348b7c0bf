"""README keeps to its size, its links lead somewhere, and its commands have the flags it names."""

import csv
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

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
    for target in re.findall(r"""(?:\]\(|src=")([^)\s"]+)[")]""", text):
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


def table(name: str) -> list[list[str]]:
    with (ROOT / "benchmarks/results" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_results_in_readme_are_the_newest_of_the_benchmarks():
    ours = {row[0]: row[1:] for row in rows_of_readme(4) if row[0].startswith("`")}
    head, *rows = table("recipes.csv")
    places = [head.index(name) for name in ("test top-1 (95 % interval)", "macro-F1", "whole run")]
    for recipe in ("fast", "balanced", "best"):
        newest = next(row for row in rows if f"`{recipe}`" in row[head.index("recipe")])
        figures = [newest[place].replace("*", "") for place in places]
        assert next(row for name, row in ours.items() if f"`{recipe}`" in name) == figures


def rows_of_readme(cells: int) -> list[list[str]]:
    lines = re.findall(r"^\| (.*) \|$", README, re.MULTILINE)
    return [line.split(" | ") for line in lines if len(line.split(" | ")) == cells]


def test_how_fast_exports_are_is_what_was_measured():
    head, *rows = table("inference.csv")
    engines = {row[0].replace("*", ""): [cell.replace("*", "") for cell in row] for row in rows}
    single = head.index("single photo: p50")
    slow = float(engines["`pipeline`"][single].split()[0])
    for engine, text in {
        "OpenVINO bf16": "classifies {} times as many photos a second",
        "`FruitClassifier`, PyTorch fp32": "without an export, {} and",
    }.items():
        assert text.format(engines[engine][head.index("ratio")]) in " ".join(README.split())
    once = slow / float(engines["OpenVINO bf16"][single].split()[0])
    assert f"single photos {once:.0f} times as fast" in " ".join(README.split())


def test_the_chart_of_readme_shows_the_figures_in_its_caption():
    recipes = runpy.run_path(str(ROOT / "benchmarks/accuracy_time.py"))["read"](
        ROOT / "benchmarks/results/train.csv"
    )
    said = " ".join(README.split())
    minutes, accuracies = recipes["hffruits fast"]
    assert f"{sum(accuracies) / len(accuracies):.0f} % after {minutes:.1f} minutes" in said
    minutes, accuracies = recipes["plain Hugging Face recipe"]
    assert f"{accuracies[0]:.0f} % after {minutes:.0f}" in said


def test_an_animation_loops_over_its_scenes_and_may_not_be_large(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    animation = importlib.import_module("animation")
    scenes = [animation.Scene(Image.new("RGB", (8, 8), colour), 500) for colour in ("red", "blue")]
    animation.save(scenes, tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as made:
        assert made.n_frames == 2 * (1 + animation.FADE) and made.info["loop"] == 0
    monkeypatch.setattr(animation, "LIMIT", 10)
    with pytest.raises(SystemExit, match="over 2 MB"):
        animation.save(scenes, tmp_path / "b.webp")
