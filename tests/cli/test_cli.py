"""The command line: output, exit codes, one-line errors."""

import errno
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from markupsafe import escape
from support import warm
from support.runs import TINY_FLAGS

from hffruits.cli.main import COMMANDS, main
from hffruits.cli.output import format_summary
from hffruits.core.errors import added_to_errors
from hffruits.data.load import load_fruits

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)


def test_without_a_command_the_help_is_printed_with_the_code_of_a_mistake(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert "\n  train " in output.out and not output.err


@pytest.mark.parametrize("argv", [["bake"], ["predict"], ["train", "--epochs", "3"]])
def test_a_wrong_command_line_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_predict_prints_a_line_a_picture(trained, drawn_fruits, capsys):
    folder = drawn_fruits / "test" / "Apple"
    assert main(["predict", str(trained), str(folder), "--top_k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    names = load_fruits(drawn_fruits)["train"].features["label"].names
    for line in lines:
        path, scores = line.split("\t")
        assert Path(path).is_file()
        label, percent = scores.split(", ")[0].rsplit(" ", 1)
        assert label in names and percent.endswith("%")


def test_the_summary_of_a_run_of_an_older_version_is_whole(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    del metrics["data"]["not_measured"], metrics["data"]["dropped_classes"]
    assert "Tested    accuracy" in format_summary(metrics)


def test_predict_goes_on_after_a_bad_picture_and_says_so(trained, drawn_fruits, tmp_path, capsys):
    good = next((drawn_fruits / "test" / "Apple").iterdir())
    bad = tmp_path / "cut.png"
    bad.write_bytes(good.read_bytes()[:500])
    assert main(["predict", str(trained), str(bad), str(good)]) == 2
    output = capsys.readouterr()
    assert output.out.startswith(f"{good}\t") and output.out.count("\n") == 1
    assert (
        output.err.startswith(f"hffruits predict: error: {bad}: ") and output.err.count("\n") == 1
    )


def test_of_many_bad_photos_predict_names_ten_and_counts_the_rest(untrained, tmp_path, capsys):
    for number in range(14):
        (tmp_path / f"{number}.jpg").write_text("no photo")
    assert main(["predict", str(untrained), f"{tmp_path}/*.jpg"]) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and all("not an image" in line for line in lines)
    assert last == (
        "hffruits predict: error: 14 of 14 photos can't be read. --output FILE lists all of them."
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "/no/such/folder"],
        ["train", "--augment", "wild"],
        ["train", "--model_name_or_path", "resnet_18"],
        ["predict", "/no/such/model", __file__],
        ["explore", "Zm9v" * 100],
        ["train", "--exclude", "Zm9v" * 100],
        ["evaluate", "Zm9v" * 100],
        ["demo", "/no/such/model"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith(f"hffruits {argv[0]}: error: ")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_is_reported_with_what_is_already_saved(capsys, monkeypatch):
    def fail(argv: list[str]) -> None:
        with added_to_errors("The model is saved in runs/a."):
            raise OSError(errno.ENOSPC, "No space left on device", "runs/a/report.html")

    monkeypatch.setitem(COMMANDS, "train", fail)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == (
        "hffruits train: error: runs/a/report.html: the disk is full. Free some. "
        "The model is saved in runs/a.\n"
    )


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("search", "; the same command resumes"),
        ("explore", ""),
        (
            "train",
            "; if the run's folder has a checkpoint, the same command with "
            "--resume_from_checkpoint --output_dir RUN resumes",
        ),
    ],
)
def test_what_is_interrupted_says_how_to_resume(command, hint, capsys, monkeypatch):
    def interrupt(argv: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, command, interrupt)
    assert main([command]) == 130
    assert capsys.readouterr().err == f"\ninterrupted{hint}\n"


@pytest.mark.slow
def test_the_training_script_reports_bad_input_without_a_traceback(tmp_path):
    words = [ROOT / "scripts" / "train.py", "--data_dir", tmp_path / "nowhere"]
    done = warm.run(words, cwd=tmp_path, folder=tmp_path)
    assert done.returncode == 2
    assert "no such folder" in done.stderr and "Traceback" not in done.stderr


def test_a_record_and_its_page_have_the_command_as_it_was_typed(make_folder, tmp_path):
    photos, output = make_folder({"Apple": 3, "Plum": 3}), tmp_path / "my output"
    words = ["explore", str(photos), "--output_dir", str(output), "--max_images=0"]
    assert main(words) == 0
    command = shlex.join(["hffruits", *words])
    assert json.loads((output / "explore.json").read_text())["command"] == command
    assert str(escape(command)) in (output / "explore.html").read_text("utf-8")


@pytest.mark.slow
def test_a_log_is_not_full_of_progress_bars(drawn_fruits, tmp_path):
    words = [drawn_fruits, *TINY_FLAGS, "--eval_strategy=epoch", f"--output_dir={tmp_path / 'run'}"]
    words += ["--num_train_epochs=10", "--logging_steps=1"]
    command = [sys.executable, "-m", "hffruits", "train", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "\r" not in done.stdout + done.stderr and "%|" not in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:11]] == [
        str(epoch) for epoch in range(1, 11)
    ]


def test_a_log_of_training_has_a_line_an_epoch_and_no_carriage_return(
    drawn_fruits, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr("hffruits.core.progress.LOGGED_EVERY", 0)  # as often as bars are drawn
    words = [*TINY_FLAGS, "--eval_strategy=epoch", "--num_train_epochs=2"]
    assert main(["train", str(drawn_fruits), *words, f"--output_dir={tmp_path / 'run'}"]) == 0
    printed = capfd.readouterr()
    assert "\r" not in printed.out + printed.err
    table = printed.out.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table] == ["epoch", "1", "2"]
    progress = [line for line in printed.err.splitlines() if line.endswith(" so far")]
    assert any(line.startswith("Training: ") for line in progress)
    assert not any("%|" in line or "it/s" in line for line in printed.err.splitlines())


def test_a_log_of_the_other_commands_has_no_carriage_return(
    trained, drawn_fruits, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr("hffruits.core.progress.LOGGED_EVERY", 0)
    data, out = str(drawn_fruits), str(tmp_path)
    for words in (
        ["evaluate", str(trained), data, "--output_dir", f"{out}/evaluation"],
        ["compare", str(trained), str(trained), data, "--output_dir", f"{out}/comparison"],
        ["predict", str(trained), data, "--output", f"{out}/table.csv"],
        ["split", data, "--output_dir", f"{out}/splits"],
    ):
        assert main(words) == 0
        printed = capfd.readouterr()
        assert "\r" not in printed.out + printed.err
