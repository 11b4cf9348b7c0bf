"""The sample set: what it holds, what it may be used for, and that it splits without leaks."""

import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

from hffruits.cli.main import main
from hffruits.core.errors import InputError
from hffruits.data.arguments import SAMPLE
from hffruits.data.load import load_fruits
from hffruits.data.samples import (
    ASIDE,
    CITATION,
    LICENSE,
    URL,
    copy_samples,
    example_photos,
    origin_of,
    sample_files,
    samples_dir,
)


@pytest.fixture(scope="module")
def loaded():
    return load_fruits(samples_dir())


def state_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_it_has_16_kinds_of_about_30_photos_in_folders_of_uneven_depth():
    files = sample_files()
    assert len(files) >= 16
    assert all(25 <= len(photos) <= 35 for photos in files.values())
    depths = {len(photos[0].relative_to(samples_dir()).parts) for photos in files.values()}
    assert depths == {3, 4}


def test_it_has_kinds_that_are_hard_to_tell_apart():
    for pair in ("Royal-Gala Pink-Lady", "Satsumas Orange", "Lemon Lime", "Peach Nectarine"):
        assert set(pair.split()) <= set(sample_files())


def test_all_of_it_takes_8_megabytes_at_most():
    assert sum(path.stat().st_size for path in samples_dir().rglob("*")) <= 8e6


def test_the_photos_are_small_jpegs_without_metadata():
    for photo in (photo for photos in sample_files().values() for photo in photos):
        with Image.open(photo) as image:
            assert (image.format, image.mode, min(image.size)) == ("JPEG", "RGB", 256)
            assert not image.getexif()
            assert not {"exif", "icc_profile", "xmp", "comment", "photoshop"} & set(image.info)


def test_its_license_and_origin_lie_beside_it():
    assert "MIT License" in (samples_dir() / "LICENSE").read_text()
    assert "Copyright (c) 2019 Marcus Klasson" in (samples_dir() / "LICENSE").read_text()
    text = (samples_dir() / "README.md").read_text(encoding="utf-8")
    assert "@inproceedings{klasson2019hierarchical" in text and URL in text
    assert LICENSE == "MIT" and "Klasson" in CITATION and "WACV 2019" in CITATION


def test_its_page_says_how_many_photos_there_are():
    files = sample_files()
    counts = sorted(map(len, files.values()))
    text = (samples_dir() / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    assert f"{sum(counts)} photos of {len(files)} kinds of fruit and vegetables" in text
    assert f"{counts[0]} to {counts[-1]} of each" in text


def test_near_duplicates_are_in_it_and_stay_on_one_side_of_the_split(loaded):
    homes = defaultdict(list)
    for split, groups in loaded.groups.items():
        for number in groups:
            homes[number].append(split)
    pairs = [splits for splits in homes.values() if len(splits) > 1]
    assert len(pairs) == 7 and all(len(set(splits)) == 1 for splits in pairs)
    assert loaded.leaks == {"validation": 0, "test": 0} and not loaded.skipped


def test_a_split_says_how_many_near_duplicates_it_kept_on_one_side(make_folder, caplog):
    caplog.set_level("INFO")
    load_fruits(samples_dir())
    assert "14 near-duplicates in 7 groups, each on one side of the split" in caplog.messages
    caplog.clear()
    folder = make_folder({"Apple": 8, "Banana": 8})
    load_fruits(folder)
    for number in (8, 9):
        shutil.copy(folder / "Apple" / "0.jpg", folder / "Apple" / f"{number}.jpg")
    load_fruits(folder, split_by="class")  # which keeps nothing on one side
    assert "near-duplicates in" not in caplog.text
    load_fruits(folder)
    assert "3 near-duplicates in 1 group, each on one side of the split" in caplog.messages


def test_its_folders_give_coarse_labels(loaded):
    assert {loaded.coarse[name] for name in ("Royal-Gala", "Pink-Lady")} == {"Apple"}
    assert loaded.coarse["Banana"] == "Banana"


def test_reading_it_writes_nothing_beside_it():
    before = state_of(samples_dir())
    load_fruits(samples_dir(), image_cache="decoded")["train"][0]
    assert state_of(samples_dir()) == before


def test_there_is_an_example_of_each_kind():
    examples = example_photos()
    assert list(examples) == list(sample_files()) == sorted(examples)
    assert all(photo.is_file() and photo.parent.name == name for name, photo in examples.items())


def test_the_command_copies_it_and_says_what_may_be_done_with_it(tmp_path, loaded, capsys):
    folder = tmp_path / "new" / "fruit photos"
    assert main(["samples", str(folder)]) == 0
    count = sum(map(len, sample_files().values()))
    said = capsys.readouterr().out
    assert f"Photos    {count} of {len(sample_files())} kinds\n" in said
    assert CITATION in said and f"License   MIT, see {folder / 'LICENSE'}\n" in said
    assert said.endswith(f"Saved     {folder}\nTrain     hffruits train '{folder}'\n")
    assert (folder / "README.md").is_file()
    assert load_fruits(folder).fingerprint == loaded.fingerprint


def test_the_copies_can_be_changed_though_the_package_cannot(tmp_path):
    copy_samples(tmp_path)
    assert all(path.stat().st_mode & 0o200 for path in tmp_path.rglob("*"))


def test_a_copy_is_known_as_one(tmp_path):
    copy_samples(tmp_path / "fruits")
    assert origin_of(str(tmp_path / "fruits")) == origin_of(SAMPLE)
    (tmp_path / "fruits/README.md").write_text("My own photos")
    assert origin_of(str(tmp_path / "fruits")) is None


def test_a_copy_that_stops_halfway_leaves_no_photos_and_can_be_made_again(tmp_path, monkeypatch):
    copy, copied = shutil.copyfile, []

    def stop_at_the_fifth(source, target):
        copied.append(copy(source, target))
        if len(copied) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        copy_samples(tmp_path / "fruits")
    assert len(copied) == 5 and not list(tmp_path.rglob("*.*"))
    monkeypatch.undo()
    copy_samples(tmp_path / "fruits")


def test_what_a_killed_copy_left_is_replaced(tmp_path):
    (tmp_path / ASIDE / "Fruit").mkdir(parents=True)
    (tmp_path / ASIDE / "Fruit" / "half.jpg").write_bytes(b"")
    copy_samples(tmp_path)
    assert not (tmp_path / ASIDE).exists() and not list(tmp_path.rglob("half.jpg"))
    assert load_fruits(tmp_path).fingerprint == load_fruits(samples_dir()).fingerprint


def test_the_current_folder_can_hold_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["samples", "."]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in samples_dir().iterdir()
    }


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["samples", "~/fruits"]) == 0
    assert f"Train     hffruits train {tmp_path / 'fruits'}\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["fruits"]


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["samples", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"hffruits samples: error: {tmp_path}: not empty. Name a new folder, or an empty one.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match=r"mine\.txt: can't be written"):
        copy_samples(tmp_path / "mine.txt")
