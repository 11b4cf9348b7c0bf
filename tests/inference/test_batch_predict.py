"""Batch prediction: each file labelled once, however the process is interrupted."""

import csv
import json
import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.runs import launch, paint
from support.warm import Warm

from hffruits.cli.main import main
from hffruits.core.errors import InputError
from hffruits.inference.batch_predict import Job, label_files, label_into_table
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.journal import Journal
from hffruits.inference.table_writer import WRITERS
from hffruits.models.loading import build_model

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


def test_photos_of_phones_are_labelled_and_unread_ones_have_their_reason(fruits, tmp_path):
    paint(tmp_path / "in" / "a.heic")
    paint(tmp_path / "in" / "b.jpg").rename(tmp_path / "in" / "b.jpg_large")
    for name in ("c.cr2", "d.mov", "e.txt"):
        (tmp_path / "in" / name).write_bytes(b"anything")
    file = label_files(fruits, job_of(tmp_path / "out.csv", tmp_path / "in")).file
    rows = {Path(row["path"]).name: row for row in csv.DictReader(file.open(encoding="utf-8-sig"))}
    assert sorted(rows) == ["a.heic", "b.jpg_large", "c.cr2"]
    assert rows["a.heic"]["label"] and rows["b.jpg_large"]["label"]
    assert "camera raw isn't read" in rows["c.cr2"]["error"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Thirty images in nested folders, and three files that are none."""
    root = tmp_path_factory.mktemp("photos") / "many"
    for number in range(30):
        paint(root / f"{number % 3}" / "deep" / f"{number:02d}.png", seed=number)
    (root / "broken.jpg").write_text("junk")
    (root / "0" / "empty.png").touch()
    (root / "notes.txt").write_text("no image")
    return root


def journal_of(job: Job) -> Path:
    return job.file.with_name(f"{job.file.name}.part")


def job_of(output: Path, *sources: Path, model: str = "m", **options) -> Job:
    return Job(output, model, sources, **options)


@pytest.fixture
def killed(fruits, monkeypatch):
    """Label a job's images, and be killed just before the table is written."""

    def run(job: Job) -> None:
        def kill(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("hffruits.inference.batch_predict.write_table", kill)
            with pytest.raises(KeyboardInterrupt):
                label_files(fruits, job)

    return run


def read(file: Path) -> list[dict]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    with file.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_image_has_a_row_with_what_the_classifier_says(
    fruits, model, photos, tmp_path, suffix
):
    file = tmp_path / "new" / f"predictions{suffix}"
    done = label_into_table(model, [photos], file, top_k=2)
    assert (done.images, done.unreadable, done.before) == (32, 2, 0)
    assert sorted(file.parent.iterdir()) == [file.with_name(f".{file.name}.json"), file]
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


def test_a_stopped_job_resumes_and_does_nothing_twice(fruits, photos, tmp_path, monkeypatch):
    job = job_of(tmp_path / "predictions.jsonl", photos)
    seen = []
    read_one = FruitClassifier._read

    def stop_at_ten(self, source, **options):
        seen.append(source)
        if len(seen) == 11:
            raise KeyboardInterrupt
        return read_one(self, source, **options)

    monkeypatch.setattr(FruitClassifier, "_read", stop_at_ten)
    with pytest.raises(KeyboardInterrupt):
        label_files(fruits, job, batch_size=5)
    assert not job.file.exists()
    before = len(journal_of(job).read_text().splitlines()) - 1
    assert 5 <= before <= 10
    with journal_of(job).open("a") as journal:
        journal.write('{"path": "cut sho')  # killed while writing
    monkeypatch.undo()
    asked = []
    monkeypatch.setattr(
        FruitClassifier,
        "_read",
        lambda *given, **options: asked.append(given[1]) or read_one(*given, **options),
    )
    done = label_files(fruits, job, batch_size=5)
    assert (done.images, done.before) == (32, before)
    assert len(asked) == 32 - before
    paths = [row["path"] for row in read(job.file)]
    assert len(paths) == len(set(paths)) == 32
    assert not journal_of(job).exists()


def test_a_csv_has_the_mark_that_spreadsheets_ask_for_once_also_when_resumed(
    fruits, photos, tmp_path, killed
):
    folder = tmp_path / "苹果"
    shutil.copytree(photos, folder)
    whole, resumed = (job_of(tmp_path / f"{name}.csv", folder) for name in ("whole", "resumed"))
    label_files(fruits, whole)
    killed(resumed)
    label_files(fruits, resumed)
    for job in (whole, resumed):
        content = job.file.read_bytes()
        assert content.startswith(b"\xef\xbb\xbfpath,") and content.count(b"\xef\xbb\xbf") == 1
        assert "苹果" in content.decode()


def test_images_that_come_later_are_labelled_too(fruits, tmp_path, killed):
    folder = tmp_path / "photos"
    for number in range(3):
        paint(folder / f"{number}.png", seed=number)
    job = job_of(tmp_path / "predictions.csv", folder)
    killed(job)
    paint(folder / "0a.png", seed=9)
    done = label_files(fruits, job)
    assert (done.images, done.before) == (4, 3)


def test_processes_share_the_images_and_each_has_its_own_table(fruits, photos, tmp_path):
    jobs = [job_of(tmp_path / "a.parquet", photos, rank=rank, processes=3) for rank in range(3)]
    for job in jobs:
        job.check()
        label_files(fruits, job)
    files = sorted(tmp_path.glob("a*"))
    assert [file.name for file in files] == [f"a-0000{n}-of-00003.parquet" for n in range(3)]
    parts = [[row["path"] for row in read(file)] for file in files]
    assert all(parts)  # shares are by a hash of the path, which differs from run to run
    assert len({path for part in parts for path in part}) == sum(map(len, parts)) == 32
    assert jobs[0].check().images == 32
    files[1].unlink()  # one process was killed: it resumes, the others have nothing to do
    jobs[0].check()
    assert label_files(fruits, jobs[0]) is None
    assert label_files(fruits, jobs[1]).images == len(parts[1])
    with pytest.raises(InputError, match="another number of processes"):
        job_of(tmp_path / "a.parquet", photos, processes=2).check()


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_complete_table_is_no_mistake_but_one_without_some_of_the_photos_is(
    name, untrained, tmp_path, capsys
):
    for number in range(3):
        paint(tmp_path / "photos" / f"{number}.png", seed=number)
    table = tmp_path / name
    words = ["predict", str(untrained), str(tmp_path / "photos"), "--output", str(table)]
    assert main(words) == 0
    before = table.read_bytes()
    capsys.readouterr()
    assert main(words) == 0
    said = f"Complete  3 photos, all labelled before\nSaved     {table}\n"
    assert capsys.readouterr().out == said
    paint(tmp_path / "photos" / "new.png", seed=4)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{table}: is there, without 1 of these photos. Name another" in line
    assert table.read_bytes() == before
    table.write_text("words")
    assert main(words) == 2
    assert "not a table of labels" in capsys.readouterr().err
    table.write_text("a" * 200_000)  # more than csv takes for a field
    assert main(words) == 2
    assert "not a table of labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": "two"}, r"a\.csv: was made with model=m\. Name another"),
        ({"top_k": 3}, r"was made with top_k=1\. "),
        ({"precision": "bf16", "max_image_pixels": 9}, "was made with precision=fp32, max_image_"),
        ({"allow_truncated_images": True}, "was made with allow_truncated_images=False"),
    ],
)
def test_a_finished_table_of_another_job_is_not_taken_for_this_one(
    fruits, photos, tmp_path, other, message
):
    label_files(fruits, job_of(tmp_path / "a.csv", photos))
    with pytest.raises(InputError, match=message):
        job_of(tmp_path / "a.csv", photos, **other).check()
    assert job_of(tmp_path / "a.csv", photos / "0").check().images == 32  # some of them: no matter


def test_a_finished_table_knows_the_weights_and_needs_its_record(model, photos, tmp_path, capsys):
    table = tmp_path / "a.csv"
    words = ["predict", str(model), str(photos), "--output", str(table)]
    label_into_table(model, [photos], table)
    stamp = (model / "model.safetensors").stat()
    os.utime(model / "model.safetensors", (1, 1))  # trained again
    assert main(words) == 2
    assert "a.csv: was made with other weights: the model has" in capsys.readouterr().err
    os.utime(model / "model.safetensors", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert main(words) == 0
    for damaged in ("[1]", "{", None):
        record = tmp_path / ".a.csv.json"
        record.write_text(damaged) if damaged else record.unlink()
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is there, but maybe of another job (.a.csv.json, which says" in line


def test_photos_that_were_replaced_since_are_not_taken_for_labelled(model, tmp_path):
    photo, table = tmp_path / "photos" / "1.png", tmp_path / "a.csv"
    paint(photo, seed=1)
    label_into_table(model, [photo.parent], table)
    assert label_into_table(model, [photo.parent], table).images == 1
    paint(photo, seed=2)
    os.utime(photo, (later := table.stat().st_mtime + 1, later))
    with pytest.raises(InputError, match=r"a\.csv: is there, older than 1 of these photos\. Name"):
        label_into_table(model, [photo.parent], table)


def test_no_process_of_another_job_continues_beside_finished_tables(fruits, photos, tmp_path):
    first = job_of(tmp_path / "a.csv", photos, processes=2)
    label_files(fruits, first)
    with pytest.raises(InputError, match="was made with top_k=1"):
        job_of(tmp_path / "a.csv", photos, processes=2, top_k=3).check()
    assert first.check() is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": "two"}, "was started with model=m. "),
        ({"top_k": 3}, "was started with top_k=1. "),
        ({"precision": "bf16"}, "was started with precision=fp32. "),
    ],
)
def test_a_journal_of_another_job_is_not_mixed_up(fruits, photos, tmp_path, killed, other, message):
    killed(job_of(tmp_path / "a.csv", photos))
    with pytest.raises(InputError, match=message):
        label_files(fruits, job_of(tmp_path / "a.csv", photos, **other))


def test_a_journal_knows_its_sources_folder_and_weights(
    model, fruits, photos, tmp_path, killed, monkeypatch
):
    job = job_of(tmp_path / "a.csv", photos, model=str(model))
    killed(job)
    with pytest.raises(InputError, match="was started with sources="):
        label_files(fruits, job_of(tmp_path / "a.csv", photos / "0", model=str(model)))
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(InputError, match="was started with folder="):
            label_files(fruits, job)
    stamp = (model / "model.safetensors").stat()
    os.utime(model / "model.safetensors", (1, 1))  # trained again
    with pytest.raises(InputError, match="other weights: the model has changed since"):
        label_files(fruits, job)
    os.utime(model / "model.safetensors", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert label_files(fruits, job).before == 32


def test_a_damaged_journal_is_an_error(fruits, photos, tmp_path):
    job = job_of(tmp_path / "a.csv", photos)
    journal_of(job).write_text("junk\n")
    with pytest.raises(InputError, match="damaged"):
        label_files(fruits, job)


def test_two_processes_never_write_one_journal(fruits, photos, tmp_path):
    job = job_of(tmp_path / "a.csv", photos)
    with Journal(journal_of(job), job.head) as journal:
        journal.write({"path": "of the first"})
        with pytest.raises(InputError, match="another process is writing it"):
            label_files(fruits, job)
        assert [row["path"] for row in journal.rows()] == ["of the first"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv.part"]  # no lock is left


def test_a_kill_after_the_table_is_written_leaves_no_journal(fruits, photos, tmp_path):
    job = job_of(tmp_path / "a.csv", photos)
    label_files(fruits, job)
    for again in (job.check, partial(label_files, fruits, job)):
        journal_of(job).write_text("left over")
        again()
        assert sorted(path.name for path in tmp_path.iterdir()) == [".a.csv.json", "a.csv"]


def test_what_is_named_twice_has_the_path_that_was_written_first(photos, tmp_path):
    named = [photos / "0" / ".." / "1", photos / "1"]
    found = list(job_of(tmp_path / "a.csv", *named).images())
    assert len(found) == 10 and all(path.is_relative_to(named[0]) for path in found)


def test_an_image_that_is_named_twice_has_one_row(model, photos, tmp_path):
    twice = [photos, photos / "0", photos / "0" / "deep" / "00.png", str(photos)]
    assert label_into_table(model, twice, tmp_path / "a.csv").images == 32


def test_a_journal_that_was_cut_in_its_first_line_starts_from_scratch(fruits, photos, tmp_path):
    job = job_of(tmp_path / "a.csv", photos)
    journal_of(job).write_text('{"mod')
    done = label_files(fruits, job)
    assert (done.images, done.before) == (32, 0)


def test_what_cannot_be_written_or_found_is_explained(model, photos, tmp_path):
    with pytest.raises(InputError, match=r"predictions.xlsx: unknown kind .*\.csv, \.jsonl, \.par"):
        label_into_table(model, [photos], tmp_path / "predictions.xlsx")
    with pytest.raises(InputError, match="missing: no such file or folder"):
        label_into_table(model, [tmp_path / "missing"], tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no image files"):
        label_into_table(model, [tmp_path / "empty"], tmp_path / "a.csv")
    with pytest.raises(InputError, match="top_k=0"):
        label_into_table(model, [photos], tmp_path / "a.csv", top_k=0)
    assert not list(tmp_path.glob("a.csv*"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be written"):
        label_into_table(model, [photos], tmp_path / "file" / "a.csv")


def test_a_full_disk_loses_nothing(fruits, photos, tmp_path, monkeypatch):
    job = job_of(tmp_path / "a.csv", photos)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(WRITERS, ".csv", full)
    with pytest.raises(InputError, match="No space left on device"):
        label_files(fruits, job)
    monkeypatch.undo()
    assert label_files(fruits, job).before == 32


def test_a_name_that_is_not_utf8_has_a_row(fruits, tmp_path):
    folder = os.fsencode(tmp_path / "odd")
    os.mkdir(folder)  # noqa: PTH102
    paint(tmp_path / "plain.png").rename(os.fsdecode(folder + b"/caf\xe9.png"))
    for suffix in (".csv", ".jsonl", ".parquet"):
        job = job_of(tmp_path / f"a{suffix}", tmp_path / "odd")
        label_files(fruits, job)
        (row,) = read(job.file)
        assert row["path"].endswith("caf\\udce9.png") and row["label"] in LABELS


def test_the_command_writes_its_files_and_prints_a_summary(model, photos, tmp_path, capsys):
    output = str(tmp_path / "a.csv")
    command = ["predict", str(model), str(photos), "--output", output]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "32 photos; 0 not recognised, 2 unreadable" in printed and output in printed
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("Complete  32 photos, ")


@pytest.mark.slow
def test_two_processes_of_accelerate_label_everything_once(model, photos, tmp_path):
    output = tmp_path / "a.parquet"
    done = launch([model, photos, "--output", output], command="predict")
    assert done.returncode == 0, done.stderr
    assert "by this one of 2 processes" in done.stdout
    rows = [row for file in tmp_path.glob("a-*.parquet") for row in read(file)]
    assert len(rows) == len({row["path"] for row in rows}) == 32


@pytest.mark.slow
def test_a_killed_process_has_lost_nothing(model, tmp_path):
    for number in range(600):
        paint(tmp_path / "photos" / f"{number:03d}.png", seed=number % 7)
    output = tmp_path / "a.jsonl"
    command = ["predict", str(model), str(tmp_path / "photos"), "--output", str(output)]
    journal = output.with_name("a.jsonl.part")
    process = Warm(["hffruits", *command, "--batch_size", "8"], output=tmp_path / "log.txt")
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
