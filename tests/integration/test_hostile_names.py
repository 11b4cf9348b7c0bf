"""Hostile names of files and classes in plots, cards, pages, tables, terminals and URLs."""

import csv
import json
import shlex
import shutil
import warnings
from itertools import pairwise
from pathlib import Path

import datasets
import matplotlib
import numpy as np
import pytest
from huggingface_hub import DatasetCard, ModelCard
from markdown_it import MarkdownIt
from markupsafe import escape
from support.pages import Tags
from support.runs import paint, tiny_arguments

from hffruits.cli.main import main
from hffruits.core.escaping import (
    list_line,
    markdown,
    markdown_block,
    markdown_code,
    name_in_line,
    printable,
    spreadsheet_cell,
)
from hffruits.core.names import clean_name
from hffruits.core.plots import draw_evaluation, draw_grid, draw_lr_range
from hffruits.data.arguments import DataArguments
from hffruits.data.load import load_fruits
from hffruits.data.splits import write_lists
from hffruits.demo.app import open_model
from hffruits.evaluation.comparison import compare
from hffruits.evaluation.run import evaluate
from hffruits.exploration.run import explore
from hffruits.hub.push_dataset import push_data
from hffruits.hub.push_model import push
from hffruits.hub.redaction import redaction_of
from hffruits.inference.classifier import FruitClassifier
from hffruits.training.hyperparameter_search import search
from hffruits.training.run import train

NAMES = [  # of class folders
    "$5 a $kilo",
    "\\$\\frac{1}{0}$ a$b$ $$x$$",
    "_x",
    "<script>hacked = 1<script>",
    "<img src=x onerror=hacked=1>",
    "| `pipes` ``and ticks |",
    "\"double\" 'single' & &amp;",
    "{x} {{ 7 * 7 }} {% raw %} %s %(x)d",
    "=1+1",
    "-rf",
    "--- !!python",
    "#1 **bold** [a](javascript:b) ![c](http:d)",
    "new\nline\r\u2028paragraph\u2029",
    "\x1b[31mred\x07\x9b",
    "\N{RED APPLE} \u200f\u062a\u0641\u0627\u062d \u202eelppA",
    "null",
    "9. ninth",
]
LABELS = [clean_name(name) for name in NAMES]  # as classes, without invisible characters


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two photos of each class in each of two splits, in a folder with such a name itself."""
    root = tmp_path_factory.mktemp("named") / "-$a$ & 'b' [1] {z} <i>"
    for split in ("train", "validation"):
        for number, name in enumerate(NAMES):
            for index in range(2):
                seed = 10 * number + index + 1000 * len(split)
                paint(root / split / name / f"$1$ {index}.png", seed=seed)
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "_`$r$` | <b>"
    train(*tiny_arguments(photos, folder, num_train_epochs=1), command="hffruits train\n```\n# x")
    return folder


def shown(card: str) -> MarkdownIt:
    """The tokens that a reader of Markdown makes of a card's body, all levels."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(card)
    return [inner for token in tokens for inner in (token, *(token.children or ()))]


def text_of(card: str) -> str:
    kinds = ("text", "code_inline", "fence")
    return "".join(token.content for token in shown(card) if token.type in kinds)


def cells_of(card: str) -> list[str]:
    """The text of each cell of its tables."""
    tokens = MarkdownIt("commonmark").enable("table").parse(card)
    inside = [t for before, t in pairwise(tokens) if before.type == "td_open"]
    return ["".join(child.content for child in t.children) for t in inside]


def foreign(card: str) -> list[str]:
    """What a name has injected: HTML, links, images of other sites."""
    made = [t for t in shown(card) if t.type in ("html_inline", "html_block", "link_open", "image")]
    return [t.content for t in made if t.attrs.get("src") != "evaluation.png"]


def pushed_card(hub, kind: str) -> str:
    return hub.repos[kind, "user/fruits"].files["README.md"].decode()


# ---- end to end ----


def test_a_run_writes_its_records_report_plot_and_card(run):
    assert FruitClassifier.from_pretrained(run).labels == sorted(LABELS)
    files = {path.name for path in run.iterdir()}
    assert {"metrics.json", "report.html", "evaluation.png", "README.md"} <= files
    lists = (run / "splits" / "train.txt").read_text("utf-8").splitlines()
    assert len(lists) == 2 * len(NAMES)


def test_a_model_card_shows_names_as_they_are(run, local_hub):
    push(run, "user/fruits")
    for text in ((run / "README.md").read_text("utf-8"), pushed_card(local_hub, "model")):
        card = ModelCard(text)
        assert not foreign(card.text)
        for name in LABELS:
            assert printable(name) in text_of(card.text)
        assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
        assert "hffruits train\n```\n# x\n" in text_of(card.text)  # one block, whatever is in it
        results = card.data.eval_results
        assert results and results[0].dataset_name == "-$a$ & 'b' [1] {z} <i>"


def test_a_data_sets_card_and_rows_have_the_same_labels(photos, local_hub, tmp_path):
    push_data(DataArguments(data_dir=str(photos)), "user/fruits")
    card = DatasetCard(pushed_card(local_hub, "dataset"))
    (label,) = (one for one in card.data.dataset_info["features"] if one["name"] == "label")
    names = label["dtype"]["class_label"]["names"]
    assert [names[str(i)] for i in range(len(NAMES))] == sorted(LABELS)
    rows = datasets.load_dataset("user/fruits", cache_dir=str(tmp_path / "read"))
    assert rows["train"].features["label"].names == sorted(LABELS)
    assert not foreign(card.text)
    assert {printable(name) for name in LABELS} <= set(cells_of(card.text))


def test_pages_show_names_and_inject_nothing(run, photos, tmp_path):
    data = DataArguments(data_dir=str(photos))
    evaluate(run, data, output_dir=tmp_path / "evaluated")
    compare(run, run, data, output_dir=tmp_path / "compared")
    explore(data, output_dir=tmp_path / "explored", max_images=0)
    for file in ("evaluated/report.html", "compared/compare.html", "explored/explore.html"):
        page = (tmp_path / file).read_text("utf-8")
        tags = Tags(page)
        kinds = {tag for tag, _ in tags.tags}
        assert not [name for _, attributes in tags.tags for name in attributes if name[:2] == "on"]
        assert page.count("<script") == page.count("</script>")
        assert kinds.isdisjoint({"iframe", "object"}) and 'src="x' not in page
        scripts = [attributes for tag, attributes in tags.tags if tag == "script"]
        assert len(scripts) <= 3
        for name in LABELS:
            assert name.replace("\r", "\n") in tags.text.replace("\r", "\n"), name


def test_predictions_are_read_back_as_they_are(run, photos, tmp_path):
    evaluate(run, DataArguments(data_dir=str(photos)), output_dir=tmp_path / "evaluated")
    with (tmp_path / "evaluated" / "predictions.csv").open(
        newline="", encoding="utf-8-sig"
    ) as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(LABELS)
    assert all((photos / row["path"]).is_file() for row in rows)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_of_answers_is_read_back_as_it_is(run, photos, tmp_path, suffix):
    output = tmp_path / f"predictions{suffix}"
    assert main(["predict", str(run), str(photos / "train"), "--output", str(output)]) == 0
    with output.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file)) if suffix == ".csv" else [json.loads(i) for i in file]
    assert len(rows) == 2 * len(NAMES)
    assert all(Path(row["path"]).is_file() and row["label"] in LABELS for row in rows)


def test_nothing_that_is_printed_steers_the_terminal(run, photos, tmp_path, capfd):
    assert main(["evaluate", str(run), "--output_dir", str(tmp_path / "evaluated")]) == 0
    assert main(["predict", str(run), *map(str, photos.glob("train/*/*0.png"))]) == 0
    (photos / "train" / NAMES[-4] / "bad\x1b]0;title\x07.png").write_text("no image")
    assert main(["evaluate", str(run), str(photos), "--output_dir", str(tmp_path / "two")]) == 0
    assert main(["predict", str(run), str(tmp_path / "gone\x1b[2J")]) == 2
    out, err = capfd.readouterr()
    assert "\\x1b[31mred" in out and "gone\\x1b[2J: no such file" in err
    for code in ("\x1b[31m", "\x1b]", "\x1b[2J", "\x07", "\x9b"):
        assert code not in out + err


def test_a_run_is_resumed_with_its_split_lists(run, photos, tmp_path):
    lists = load_fruits(photos, split_lists=run / "splits")
    assert len(lists["train"]) == 2 * len(NAMES)


def test_a_copied_command_means_the_same_data(photos):
    data = DataArguments(data_dir=str(photos), split_lists="-lists", exclude="a b")
    words = shlex.split(shlex.join(data.words))
    assert words == [str(photos), "--split_lists=-lists", "--exclude", "a b"]
    assert data.name == photos.name  # no pattern, for it is there


def test_a_search_in_a_folder_of_any_name_is_kept_there(drawn_fruits, tmp_path):
    folder = tmp_path / "a?b=c#d%41 {x}"
    data, model, args = tiny_arguments(drawn_fruits, folder, eval_strategy="epoch", max_steps=1)
    search(data, model, args, trials=1)
    assert (folder / "search.db").is_file()


def test_the_demo_says_which_model_it_has(run):
    _, about, _ = open_model(str(run))
    assert run.name in text_of(about) and not foreign(about)


# ---- each interpreter ----


@pytest.mark.parametrize("settings", [{}, {"text.usetex": True, "text.parse_math": True}])
def test_plots_draw_names_as_text_and_leave_matplotlibs_settings(tmp_path, settings):
    grey = np.full((4, 4, 3), 0.5)
    matrix = np.zeros((len(NAMES), len(NAMES), 4), np.uint8)
    bins = (np.array([0.5]), np.array([0.5]), np.array([3]))
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        before = dict(matplotlib.rcParams)
        warnings.simplefilter("error")
        draw_evaluation(matrix, NAMES, {"now": bins}, title=NAMES[1], file=tmp_path / "a.png")
        draw_grid([(name, [grey]) for name in NAMES], [NAMES[0]], tmp_path / "b.png")
        draw_lr_range([1e-5, 1e-3, 0.1], [3, 2, 4], [3, 2, 4], 1e-3, tmp_path / "c.png")
        assert dict(matplotlib.rcParams) == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png", "c.png"}


@pytest.mark.parametrize("name", [*NAMES, "https://evil.example www.evil.example a@b.example"])
def test_markdown_shows_a_name_in_every_place(name):
    line = printable(" ".join(name.split()))
    escaped, code = markdown(name), markdown_code(name)
    for text in (escaped, f"# {escaped}", f"- {escaped}\n", f"a {escaped} b", f"> {escaped}"):
        assert line in text_of(text) and not foreign(text)
    assert text_of(code) == line
    assert cells_of(f"| a | b |\n|---|---|\n| {escaped} | 1 |\n") == [line, "1"]
    assert text_of(markdown_block(name, "sh")).rstrip("\n").replace("\r", "\n") == (
        name.replace("\r", "\n").rstrip("\n")
    )
    # which some sites make links of
    assert "://" not in escaped.replace("\\:", "") and "www." not in escaped


@pytest.mark.parametrize("name", [*NAMES, '"quoted"', '"', "tab\there", "\ufeffbom", "plain/1.jpg"])
def test_a_list_holds_any_name_in_one_line(name):
    (line,) = list_line(name).splitlines()
    assert "\t" not in line and name_in_line(line) == name
    assert list_line("Äpfel/1 $.jpg") == "Äpfel/1 $.jpg"


def test_lists_are_read_back_with_any_name(make_folder, tmp_path):
    root = make_folder({"train/A": 1, "train/B": 1, "validation/A": 1, "validation/B": 1})
    for split in ("train", "validation"):
        shutil.copy(root / split / "A" / "0.jpg", root / split / "A" / 'a\n"b\r\u2028.jpg')
    rows = load_fruits(root)
    write_lists(rows, tmp_path / "lists")
    again = load_fruits(root, split_lists=tmp_path / "lists")
    assert again["train"]["path"] == rows["train"]["path"]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@a", "\ta", "\ra", "\na"])
def test_a_cell_for_a_spreadsheet_is_no_formula(cell):
    assert spreadsheet_cell(cell) == f"'{cell}" and spreadsheet_cell(f"a{cell}") == f"a{cell}"


def test_a_page_is_published_without_the_folder_however_it_is_escaped(tmp_path):
    root = tmp_path / 'o\'brien & "sons" <x>'
    root.mkdir()
    source = str(root / "data")
    page = redaction_of(root).in_page(str(escape(source)) + f" <code>{escape(source)}</code>")
    assert page == "data <code>data</code>"
