"""Millions of files, in small: each labelled once, whatever stops the process."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import launch_two, paint

from hffruits.bulk import Job, label_files, label_into_table
from hffruits.cli import main
from hffruits.errors import InputError
from hffruits.models import build_model
from hffruits.predict import FruitClassifier

LABELS = ["Apple", "Banana", "Lime"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    net, _ = build_model("test_efficientnet", labels=LABELS, pretrained=False)
    net.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def fruits(model: Path) -> FruitClassifier:
    return FruitClassifier.from_pretrained(model)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Thirty pictures in nested folders, and three files that are none."""
    root = tmp_path_factory.mktemp("photos") / "many"
    for number in range(30):
        paint(root / f"{number % 3}" / "deep" / f"{number:02d}.png", seed=number)
    (root / "broken.jpg").write_text("junk")
    (root / "0" / "empty.png").touch()
    (root / "notes.txt").write_text("no picture")
    return root


def read(file: Path) -> list[dict]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_picture_has_a_row_with_what_the_classifier_says(
    fruits, model, photos, tmp_path, suffix
):
    file = tmp_path / "new" / f"answers{suffix}"
    done = label_into_table(model, [photos], file, top_k=2)
    assert (done.pictures, done.unreadable, done.before) == (32, 2, 0)
    assert list(file.parent.iterdir()) == [file]
    rows = {row["path"]: row for row in read(file)}
    assert len(rows) == 32
    for path in sorted(photos.rglob("[0-9][0-9].png")):
        row, wanted = rows[str(path)], fruits.predict(path)
        assert (row["label"], row["label_2"]) == tuple(label for label, _ in wanted.top[:2])
        assert float(row["score"]) == pytest.approx(wanted.score, abs=1e-4)
        assert str(row["known"]) == "True" and not row.get("error")
    assert rows[str(photos / "broken.jpg")]["error"] == "not an image, or an unknown format"
    assert rows[str(photos / "0" / "empty.png")]["error"] == "empty file (0 bytes)"
    assert not rows[str(photos / "broken.jpg")].get("label")


def test_a_stopped_job_goes_on_and_does_nothing_twice(fruits, photos, tmp_path, monkeypatch):
    job = Job(tmp_path / "answers.jsonl", model="m", top_k=1)
    seen = []
    read_one = FruitClassifier._read

    def stop_at_ten(self, source, max_pixels):
        seen.append(source)
        if len(seen) == 11:
            raise KeyboardInterrupt
        return read_one(self, source, max_pixels)

    monkeypatch.setattr(FruitClassifier, "_read", stop_at_ten)
    with pytest.raises(KeyboardInterrupt):
        label_files(fruits, [photos], job, batch_size=5)
    assert not job.file.exists()
    before = len(job.journal.read_text().splitlines()) - 1
    assert 5 <= before <= 10
    with job.journal.open("a") as journal:
        journal.write('{"path": "cut sho')  # killed while writing
    monkeypatch.undo()
    asked = []
    monkeypatch.setattr(
        FruitClassifier, "_read", lambda *given: asked.append(given[1]) or read_one(*given)
    )
    done = label_files(fruits, [photos], job, batch_size=5)
    assert (done.pictures, done.before) == (32, before)
    assert len(asked) == 32 - before
    paths = [row["path"] for row in read(job.file)]
    assert len(paths) == len(set(paths)) == 32
    assert not job.journal.exists()


def test_pictures_that_come_later_are_labelled_too(fruits, photos, tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    for number in range(3):
        paint(folder / f"{number}.png", seed=number)
    job = Job(tmp_path / "answers.csv", model="m", top_k=1)
    monkeypatch.setattr("hffruits.bulk._finish", lambda *_, **__: None)  # killed just before
    label_files(fruits, [folder], job)
    monkeypatch.undo()
    paint(folder / "0a.png", seed=9)
    done = label_files(fruits, [folder], job)
    assert (done.pictures, done.before) == (4, 3)


def test_processes_share_the_pictures_and_each_has_its_own_table(fruits, photos, tmp_path):
    jobs = [Job(tmp_path / "a.parquet", "m", 1, rank=rank, processes=3) for rank in range(3)]
    for job in jobs:
        job.check()
        label_files(fruits, [photos], job)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"a-0000{n}-of-00003.parquet" for n in range(3)]
    parts = [[row["path"] for row in read(file)] for file in files]
    assert all(5 <= len(part) <= 16 for part in parts)
    assert len({path for part in parts for path in part}) == sum(map(len, parts)) == 32
    with pytest.raises(InputError, match="complete already"):
        jobs[0].check()
    files[1].unlink()  # one process was killed: the others have nothing to do, it goes on
    jobs[0].check()
    assert label_files(fruits, [photos], jobs[0]).pictures == 0
    assert label_files(fruits, [photos], jobs[1]).pictures == len(parts[1])
    with pytest.raises(InputError, match="another number of processes"):
        Job(tmp_path / "a.parquet", "m", 1, processes=2).check()


def test_a_journal_of_another_model_is_not_mixed_up(fruits, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("hffruits.bulk._finish", lambda *_, **__: None)
    label_files(fruits, [photos], Job(tmp_path / "a.csv", "one", 1))
    for other in (Job(tmp_path / "a.csv", "two", 1), Job(tmp_path / "a.csv", "one", 3)):
        with pytest.raises(InputError, match="was begun with model=one, top_k=1"):
            label_files(fruits, [photos], other)
    (tmp_path / "a.csv.part").write_text("junk\n")
    with pytest.raises(InputError, match="damaged"):
        label_files(fruits, [photos], Job(tmp_path / "a.csv", "one", 1))


def test_a_picture_that_is_named_twice_has_one_row(model, photos, tmp_path):
    twice = [photos, photos / "0", photos / "0" / "deep" / "00.png", str(photos)]
    assert label_into_table(model, twice, tmp_path / "a.csv").pictures == 32


def test_a_journal_that_was_cut_in_its_first_line_begins_anew(fruits, photos, tmp_path):
    job = Job(tmp_path / "a.csv", "m", 1)
    job.journal.write_text('{"mod')
    done = label_files(fruits, [photos], job)
    assert (done.pictures, done.before) == (32, 0)


def test_what_cannot_be_written_or_found_is_explained(model, photos, tmp_path):
    with pytest.raises(InputError, match=r"answers.xlsx: unknown kind .*\.csv, \.jsonl, \.parquet"):
        label_into_table(model, [photos], tmp_path / "answers.xlsx")
    with pytest.raises(InputError, match="missing: no such file or folder"):
        label_into_table(model, [tmp_path / "missing"], tmp_path / "a.csv")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be written"):
        label_into_table(model, [photos], tmp_path / "file" / "a.csv")


def test_a_full_disk_loses_nothing(fruits, photos, tmp_path, monkeypatch):
    job = Job(tmp_path / "a.csv", "m", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(__import__("hffruits.bulk").bulk.WRITERS, ".csv", full)
    with pytest.raises(InputError, match="No space left on device"):
        label_files(fruits, [photos], job)
    monkeypatch.undo()
    assert label_files(fruits, [photos], job).before == 32


def test_a_name_that_is_not_utf8_has_a_row(fruits, tmp_path):
    folder = os.fsencode(tmp_path / "odd")
    os.mkdir(folder)  # noqa: PTH102
    paint(tmp_path / "plain.png").rename(os.fsdecode(folder + b"/caf\xe9.png"))
    for suffix in (".csv", ".jsonl", ".parquet"):
        job = Job(tmp_path / f"a{suffix}", "m", 1)
        label_files(fruits, [tmp_path / "odd"], job)
        (row,) = read(job.file)
        assert row["path"].endswith("caf\\udce9.png") and row["label"] in LABELS


def test_the_command_writes_and_tells(model, photos, tmp_path, capsys):
    output = str(tmp_path / "a.csv")
    command = ["predict", str(model), str(photos), "--output", output]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "32 pictures; 0 of unknown things, 2 that can't be read" in told and output in told
    assert main(command) == 2
    assert "complete already" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_of_accelerate_label_everything_once(model, photos, tmp_path):
    output = tmp_path / "a.parquet"
    done = launch_two([model, photos, "--output", output], command="predict")
    assert done.returncode == 0, done.stderr
    assert "one of 2 tables" in done.stdout
    rows = [row for file in tmp_path.glob("a-*.parquet") for row in read(file)]
    assert len(rows) == len({row["path"] for row in rows}) == 32


@pytest.mark.slow
def test_a_killed_process_has_lost_nothing(model, tmp_path):
    for number in range(600):
        paint(tmp_path / "photos" / f"{number:03d}.png", seed=number % 7)
    output = tmp_path / "a.jsonl"
    command = ["predict", str(model), str(tmp_path / "photos"), "--output", str(output)]
    journal = output.with_name("a.jsonl.part")
    process = subprocess.Popen([sys.executable, "-m", "hffruits", *command, "--batch_size", "8"])
    deadline = time.monotonic() + 60
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert main(command) == 0
    paths = [row["path"] for row in read(output)]
    assert len(paths) == len(set(paths)) == 600
