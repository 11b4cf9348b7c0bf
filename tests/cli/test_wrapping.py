"""What is written into a terminal fits into it; what is copied from it stays whole."""

import os

import pytest

from hffruits.cli.main import main
from hffruits.cli.wrapping import terminal_width, wrap

PROSE = "12 photos in train have a near-duplicate in validation, so its metrics are too optimistic"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_lines_break_between_words_and_fit(width):
    wrapped = wrap(PROSE, width)
    assert all(len(line) <= width for line in wrapped.split("\n"))
    assert wrapped.split() == PROSE.split() and wrapped.count("\n") >= 1


@pytest.mark.parametrize("label", ["Tested    ", "Validated ", "Left out  "])
def test_the_text_of_a_row_goes_on_below_itself(label):
    first, *rest = wrap(label + PROSE, 60).split("\n")
    assert first.startswith(f"{label}12 photos")
    assert rest and all(line.startswith(" " * 10) and line[10] != " " for line in rest)
    first, *rest = wrap(f"          {PROSE}", 60).split("\n")
    assert all(line.startswith(" " * 10) and line[10] != " " for line in [first, *rest])


@pytest.mark.parametrize(
    "line",
    [
        "Demo      hffruits demo 'a folder with a long name/and another one/runs/fruits-2'",
        "Report    a folder with a long name/and another one/runs/fruits-2/report.html",
        "Train     hffruits train fruits --learning_rate 0.001 --num_train_epochs 30 --mixup 0.2",
        "epoch  train loss  val loss  val accuracy  val macro-F1  another column  one more",
        "photos/of/one/folder/1.jpg\tApple 93.1%, Pear 3.2%, Quince 1.0%, Lemon 0.4%",
    ],
)
def test_commands_paths_and_tables_stay_whole(line):
    assert wrap(line, 60) == line


@pytest.mark.parametrize(
    "text",
    [
        "Train again with the new class, since otherwise the model can't name it, ever",
        "Use the same number of processes as when the table was begun, or remove it",
        "Saved models are listed below, each with the accuracy that its run had in the end",
        "There are leaks between the splits, so all of these metrics are too optimistic",
    ],
)
def test_sentences_that_begin_as_a_row_does_are_wrapped_as_sentences(text):
    first, *rest = wrap(text, 60).split("\n")
    assert rest and all(len(line) <= 60 for line in [first, *rest])
    assert all(line.startswith("  ") and line[2] != " " for line in rest)


def test_a_command_within_a_sentence_is_not_broken():
    command = "`hffruits split fruits --repair list`"
    assert command in wrap(f"There are leaks between the splits: run {command} to fix them.", 50)


def test_a_word_longer_than_the_terminal_stays_whole():
    path = "x/" * 40
    assert path in wrap(f"left out {path} and others of this folder", 40)


def test_a_pipe_gets_long_lines_as_they_are():
    assert wrap(PROSE, None) == PROSE


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal_says_how_wide_it_is_and_a_file_has_no_width(tmp_path, monkeypatch, columns):
    monkeypatch.delenv("COLUMNS", raising=False)
    master, side = pytest.importorskip("pty").openpty()
    pytest.importorskip("termios").tcsetwinsize(side, (24, columns))
    with os.fdopen(side, "w") as terminal, (tmp_path / "log").open("w") as log:
        assert terminal_width(terminal) == columns
        assert terminal_width(log) is None and terminal_width(None) is None
        monkeypatch.setenv("COLUMNS", "50")
        assert terminal_width(terminal) == 50
    os.close(master)


@pytest.mark.parametrize("columns", [60, 80])
def test_errors_of_the_command_fit_into_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setattr("hffruits.cli.main.terminal_width", lambda stream: columns)
    assert main(["plot-lr", "wavy"]) == 2
    lines = capsys.readouterr().err.strip().split("\n")
    assert lines[0].startswith("hffruits plot-lr: error: wavy: unknown schedule")
    assert len(lines) > 1 and all(len(line) <= columns for line in lines)
