"""`hffruits split`: lists, folds and repairs; originals are never changed."""

import hashlib
import io
import shutil
from itertools import chain
from pathlib import Path
from unicodedata import normalize

import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Images
from support.drawing import draw_fruit
from support.runs import paint

from hffruits.cli.main import main
from hffruits.core.errors import InputError
from hffruits.core.names import file_key, file_name
from hffruits.data.arguments import DataArguments
from hffruits.data.images import readable_formats
from hffruits.data.load import load_fruits
from hffruits.data.readers.folders import find_image_files
from hffruits.data.sources import RawRows
from hffruits.data.validation import check_images
from hffruits.exploration.repair import choose_repairs, leave_out, write_copy
from hffruits.exploration.split_dataset import split as write_split

FRUITS = ("Apple", "Banana", "Cherry")
SPLITS = ("train", "validation", "test")
FAULTS = {
    "test/Banana/conflict.jpg": "in several classes: Apple, Banana",
    "train/Apple/7.png": "in several classes: Apple, Banana",
    "train/Apple/broken.jpg": "can't be used: not an image, or an unknown format",
    "train/Banana/leak.jpg": "near-duplicate of test/Banana/0.png in test",
    "train/Banana/mirrored.png": "near-duplicate of test/Banana/0.png in test",
    "train/Cherry/empty.png": "can't be used: empty file (0 bytes)",
    "train/Cherry/exact copy.png": "exact duplicate",
}


def draw(name: str, number: int) -> Images.Image:
    return draw_fruit(name, seed=number, size=64)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """Three classes of ten drawings, not split."""
    root = tmp_path_factory.mktemp("plain")
    for name in FRUITS:
        (root / name).mkdir()
        for number in range(10):
            draw(name, number).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Path:
    """Eight drawings a class in train and three in test, and one of each fault."""
    root = tmp_path_factory.mktemp("faulty")
    for split, numbers in {"train": range(8), "test": range(100, 103)}.items():
        for name in FRUITS:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index, number in enumerate(numbers):
                draw(name, number).save(folder / f"{index}.png")
    train = root / "train"
    draw("Apple", 7).save(root / "test/Banana/conflict.jpg", quality=80)
    draw("Banana", 100).resize((90, 90)).save(train / "Banana/leak.jpg", quality=60)
    draw("Banana", 100).transpose(Images.Transpose.FLIP_LEFT_RIGHT).save(
        train / "Banana/mirrored.png"
    )
    shutil.copy(train / "Cherry/2.png", train / "Cherry/exact copy.png")
    (train / "Apple/broken.jpg").write_text("no image")
    (train / "Cherry/empty.png").touch()
    return root


def draw_leaves(root: Path, leaves: tuple[str, ...]) -> Path:
    """Four different images of the same names in each class folder."""
    for place, leaf in enumerate(leaves):
        (root / leaf).mkdir(parents=True)
        for index in range(4):
            draw("Apple", 4 * place + index).save(root / leaf / f"{index}.png")
    return root


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Every file's content and time."""
    return {
        str(path.relative_to(root)): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns,
        )
        for path in sorted(root.rglob("*")) if path.is_file()
    }  # fmt: skip


def lists(folder: Path) -> dict[str, list[str]]:
    return {file.stem: file.read_text().splitlines() for file in folder.glob("*.txt")}


def split_folder(data_dir: Path, output_dir: Path, **options):
    arguments = {k: options.pop(k) for k in list(options) if k in DataArguments.__annotations__}
    return write_split(
        DataArguments(str(data_dir), **arguments), output_dir=output_dir, **options
    ).record


def labels_of(paths: list[str]) -> set[str]:
    return {path.split("/")[-2] for path in paths}


# ---- lists ----


def test_a_folder_is_split_and_training_repeats_it(plain, tmp_path, capsys):
    assert main(["split", str(plain), "--output_dir", str(tmp_path / "out")]) == 0
    written = lists(tmp_path / "out")
    assert {name: len(paths) for name, paths in written.items()} == {
        "train": 18, "validation": 6, "test": 6,
    }  # fmt: skip
    assert all(labels_of(paths) == set(FRUITS) for paths in written.values())
    printed = capsys.readouterr().out
    assert "Split     train 18, validation 6, test 6" in printed
    assert f"--split_lists {tmp_path / 'out'}" in printed
    data = load_fruits(plain, split_lists=tmp_path / "out")
    assert {name: rows["path"][:] for name, rows in data.items()} == written


def test_without_options_it_is_the_split_that_training_makes(plain, tmp_path):
    split_folder(plain, tmp_path / "out", seed=7)
    data = load_fruits(plain, seed=7)
    assert {name: rows["path"][:] for name, rows in data.items()} == lists(tmp_path / "out")


def test_near_duplicates_stay_in_one_split(plain, tmp_path):
    root = shutil.copytree(plain, tmp_path / "data")
    for name in FRUITS:
        for number in range(0, 10, 2):
            draw(name, number).save(root / name / f"{number} again.jpg", quality=70)
    split_folder(root, tmp_path / "out", split_by="duplicates")
    home = {path: part for part, paths in lists(tmp_path / "out").items() for path in paths}
    for path in home:
        if "again" in path:
            assert home[path] == home[path.replace(" again.jpg", ".png")]
    assert load_fruits(root, split_lists=tmp_path / "out").leaks == {"validation": 0, "test": 0}


def test_what_shares_a_pattern_lies_on_one_side(plain, tmp_path):
    split_folder(plain, tmp_path / "out", group_by=r"/(\d)\.png")
    numbers = {part: {Path(p).stem for p in some} for part, some in lists(tmp_path / "out").items()}
    assert sorted(chain(*numbers.values())) == list("0123456789")  # none is in two of them
    assert all(numbers[part] for part in SPLITS)


def test_own_splits_are_kept_and_forgotten_with_resplit(faulty, tmp_path):
    counts = split_folder(faulty, tmp_path / "kept")["images"]
    assert [list(some) for some in counts] == [["train", "validation", "test"]]
    kept = lists(tmp_path / "kept")
    assert all(path.startswith("test/") for path in kept["test"])
    assert all(path.startswith("train/") for path in kept["train"] + kept["validation"])
    assert len(kept["test"]) == 10

    split_folder(faulty, tmp_path / "resplit", resplit=True)
    made = lists(tmp_path / "resplit")
    assert {path.split("/")[0] for path in made["train"]} == {"train", "test"}
    assert sorted(chain(*made.values())) == sorted(chain(*kept.values()))
    data = load_fruits(faulty, split_lists=tmp_path / "resplit", max_unreadable_fraction=0.1)
    assert data.leaks == {"validation": 0, "test": 0}


# ---- folds ----


def test_folds_hold_each_photo_out_once(plain, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["split", str(plain), "--folds", "5", "--output_dir", str(out)]) == 0
    folds = [lists(out / f"fold-{number}") for number in range(1, 6)]
    assert sorted(chain(*(fold["test"] for fold in folds))) == sorted(
        f"{name}/{number}.png" for name in FRUITS for number in range(10)
    )
    for fold in folds:
        assert len({path for paths in fold.values() for path in paths}) == 30
        assert all(labels_of(fold[part]) == set(FRUITS) for part in SPLITS)
    printed = capsys.readouterr().out
    assert printed.count("Fold ") == 5
    assert f"--split_lists {out / 'fold-1'}" in printed


def test_only_what_no_fold_has_is_left_out(tmp_path):
    """Apple has one photo in shop b, Banana one in shop a: each fold drops another of them."""
    photos = {"Apple": "aaab", "Banana": "abbb", "Cherry": "aaabbb"}
    for name, shops in photos.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        for number, shop in enumerate(shops):
            draw(name, number).save(tmp_path / "in" / name / f"{shop}{number}.png")
    options = {"folds": 2, "group_by": "[ab](?=[0-9])", "rare_classes": "drop"}
    done = split_folder(tmp_path / "in", tmp_path / "out", repair="list", **options)
    folds = [set(), set()]
    for number, listed in enumerate(folds, 1):
        for file in (tmp_path / "out" / f"fold-{number}").glob("*.txt"):
            listed |= {line.split("/")[0] for line in file.read_text().splitlines()}
    assert sorted(map(sorted, folds)) == [["Apple", "Cherry"], ["Banana", "Cherry"]]
    assert done["left_out"] == {}
    assert len((tmp_path / "out" / "exclude.txt").read_text().splitlines()) == 1  # its heading


def test_folds_of_data_with_a_test_split_leave_it_as_it_is(faulty, tmp_path):
    split_folder(faulty, tmp_path / "out", folds=2)
    one, two = (lists(tmp_path / "out" / f"fold-{number}") for number in (1, 2))
    assert one["test"] == two["test"]
    assert all(path.startswith("test/") for path in one["test"])
    assert sorted(one["validation"]) == sorted(two["train"])
    assert not {*one["validation"]} & {*two["validation"]}


def test_folds_of_an_earlier_run_do_not_stay(plain, tmp_path):
    split_folder(plain, tmp_path / "out", folds=4)
    split_folder(plain, tmp_path / "out", folds=2)
    assert len(list((tmp_path / "out").rglob("train.txt"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 11}, r"3 classes with fewer groups .* folds=11: Apple \(10\), Banana \("),
        ({"folds": 1}, "folds=1: give 2 or more"),
        ({"folds": 2, "repair": "copy"}, "a copy has one split"),
        ({"repair": "all"}, "repair=all: must be one of none, list, copy"),
        ({"split_by": "colour"}, "split_by=colour: must be one of duplicates, class"),
        ({"split_by": "colour", "folds": 2}, "split_by=colour: must be one of"),
        ({"group_by": "("}, r"group_by=\(: not a pattern"),
        (
            {"group_by": "shop"},
            r"group_by=shop: no column .*found in no path \(such as Apple/0.png\)",
        ),
        ({"test_fraction": 0.9}, "_fraction=0"),
    ],
)
def test_what_cannot_be_is_explained_and_nothing_is_written(plain, tmp_path, options, message):
    with pytest.raises(InputError, match=message) as caught:
        split_folder(plain, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# ---- repair ----


def test_a_list_says_what_is_left_out_and_why(faulty, tmp_path, capsys):
    before = tree(faulty)
    out = tmp_path / "out"
    assert main(["split", str(faulty), "--repair", "list", "--output_dir", str(out)]) == 0
    header, *lines = (out / "exclude.txt").read_text().splitlines()
    assert header.startswith("# ")
    assert dict(line.split("\t") for line in lines) == FAULTS
    assert tree(faulty) == before
    printed = capsys.readouterr().out
    for count, kind in {
        2: ["in several classes", "can't be used", "near-duplicate"],
        1: ["exact duplicate"],
    }.items():
        assert all(f"Left out  {count}: {name}\n" in printed for name in kind)


def test_the_list_leaves_out_the_same_in_training(faulty, tmp_path):
    split_folder(faulty, tmp_path / "out", repair="list")
    data = load_fruits(faulty, exclude=tmp_path / "out" / "exclude.txt", max_unreadable_fraction=0)
    assert data.skipped == []
    assert data.leaks == {"validation": 0, "test": 0}
    paths = {path for rows in data.values() for path in rows["path"]}
    assert paths == set(tree(faulty)) - set(FAULTS)
    again = load_fruits(faulty, split_lists=tmp_path / "out", max_unreadable_fraction=0.1)
    assert {path for rows in again.values() for path in rows["path"]} == paths


def test_a_copy_is_clean_and_the_originals_stay(faulty, tmp_path, capsys):
    before = tree(faulty)
    out = tmp_path / "out"
    assert main(["split", str(faulty), "--repair", "copy", "--output_dir", str(out)]) == 0
    assert tree(faulty) == before
    assert f"Train     hffruits train {out / 'photos'}\n" in capsys.readouterr().out
    data = load_fruits(out / "photos", max_unreadable_fraction=0)
    assert {name: len(rows) for name, rows in data.items()} == {
        name: len(paths) for name, paths in lists(out).items() if name != "exclude"
    }
    assert data.leaks == {"validation": 0, "test": 0}
    copied = sorted(digest for digest, _ in tree(out / "photos").values())
    assert copied == sorted(digest for path, (digest, _) in before.items() if path not in FAULTS)
    # nothing is left to repair
    assert split_folder(out / "photos", tmp_path / "again", repair="list")["left_out"] == {}


def test_a_copy_split_anew_keeps_of_each_leak_all_versions_on_one_side(faulty, tmp_path):
    split_folder(faulty, tmp_path / "out", repair="copy", resplit=True)
    data = load_fruits(tmp_path / "out" / "photos", max_unreadable_fraction=0)
    assert data.leaks == {"validation": 0, "test": 0}
    names = {Path(path).name for rows in data.values() for path in rows["path"]}
    assert {"leak.jpg", "mirrored.png"} <= names  # no leaks any more
    assert not {"conflict.jpg", "exact copy.png", "broken.jpg"} & names


def test_a_copy_keeps_the_hierarchy_and_names_that_need_their_parents(tmp_path):
    root = draw_leaves(tmp_path / "data", ("Apple/Red", "Apple/Green", "Pepper/Red", "Plum"))
    split_folder(root, tmp_path / "out", repair="copy")
    before, after = load_fruits(root), load_fruits(tmp_path / "out" / "photos")
    names = before["train"].features["label"].names
    assert after["train"].features["label"].names == names
    assert names == ["Apple/Red", "Green", "Pepper/Red", "Plum"]
    assert after.coarse == before.coarse


@pytest.mark.parametrize("label_from", ["path", "leaf"])
def test_a_copy_has_the_classes_that_label_from_gave(tmp_path, label_from):
    root = draw_leaves(
        tmp_path / "data", ("shop_1/Apple", "shop_1/Kiwi", "shop_2/Apple", "shop_2/Kiwi")
    )
    split_folder(root, tmp_path / "out", repair="copy", label_from=label_from)
    before = load_fruits(root, label_from=label_from)
    kept = {"label_from": "path"} if label_from == "path" else {}  # as the command says
    after = load_fruits(tmp_path / "out" / "photos", **kept)
    assert after["train"].features["label"].names == before["train"].features["label"].names
    assert sum(map(len, after.values())) == sum(map(len, before.values())) == 16


def test_a_class_that_only_the_test_split_would_have_is_an_error(tmp_path):
    root = tmp_path / "data"
    for part in ("train", "test"):
        for index, name in enumerate(FRUITS):
            (root / part / name).mkdir(parents=True)
            for number in range(5):
                same = name == "Cherry"  # all of it leaks
                seed = number + (0 if same or part == "train" else 50) + 100 * index
                draw(name, seed).save(root / part / name / f"{number}.png")
    with pytest.raises(InputError, match=r"Cherry: left in test, but not in train.*Set resplit"):
        split_folder(root, tmp_path / "out", repair="copy")
    assert not (tmp_path / "out").exists()
    split_folder(root, tmp_path / "out", repair="copy", resplit=True)
    assert "Cherry" in load_fruits(tmp_path / "out" / "photos")["train"].features["label"].names


def test_a_split_that_only_leaks_is_explained(tmp_path):
    root = tmp_path / "data"
    for part in ("train", "val", "test"):
        for name in FRUITS[:2]:
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                seed = number + (50 if part == "train" else 0)
                draw(name, seed).save(root / part / name / f"{number}.png")
    with pytest.raises(InputError, match="validation: nothing is left after the repair"):
        split_folder(root, tmp_path / "out", repair="list")


# ---- where the output goes ----


@pytest.mark.parametrize("repair", ["none", "list", "copy"])
@pytest.mark.parametrize("place", ["", "splits", "Apple/deep/er"])
def test_an_output_inside_the_data_is_refused(plain, repair, place, capsys):
    before = tree(plain)
    command = ["split", str(plain), "--repair", repair, "--output_dir", str(plain / place)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "lies in the data folder" in error
    assert error.count("\n") == 1
    assert tree(plain) == before
    assert not (plain / "splits").exists()


def test_the_default_output_is_refused_in_the_data_folder_itself(plain, monkeypatch, capsys):
    monkeypatch.chdir(plain)
    assert main(["split", "."]) == 2
    assert "lies in the data folder" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["file", "photos is a file"])
def test_a_copy_into_what_is_there_already_is_refused(plain, tmp_path, what, monkeypatch):
    photos = tmp_path / "out" / "photos"
    if what == "file":
        photos.mkdir(parents=True)
        (photos / "mine.txt").write_text("keep")
    else:
        photos.parent.mkdir()
        photos.write_text("keep")
    monkeypatch.setattr(
        "hffruits.exploration.repair.check_images", None
    )  # refused before the long scan
    with pytest.raises(InputError, match=r"photos: not empty\. Name another output_dir"):
        split_folder(plain, tmp_path / "out", repair="copy")


def test_the_list_in_use_is_not_overwritten(plain, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "exclude.txt").write_text("Apple/0.png\tugly\n")
    with pytest.raises(InputError, match=r"exclude\.txt: would be overwritten"):
        split_folder(plain, out, repair="list", exclude=str(out / "exclude.txt"))
    split_folder(plain, tmp_path / "other", repair="list", exclude=str(out / "exclude.txt"))
    assert "Apple/0.png" not in set(chain(*lists(tmp_path / "other").values()))


def test_an_output_that_cannot_be_written_is_explained(plain, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file/out: can't be written"):
        split_folder(plain, tmp_path / "file" / "out")


# ---- copies of rows that are no files ----


def rows_of(rows: list[tuple[str, str]], *, form: str = "JPEG") -> Dataset:
    """Images as bytes: (label, path) each, another drawing each."""
    images = []
    readable_formats()  # has Pillow write HEIF, too
    for number in range(len(rows)):
        file = io.BytesIO()
        draw("Apple", number).save(file, form)
        images.append({"bytes": file.getvalue(), "path": None})
    features = {"image": Image(decode=False), "label": Value("string"), "path": Value("string")}
    columns = {"image": images, "label": [r[0] for r in rows], "path": [r[1] for r in rows]}
    return Dataset.from_dict(columns, features=Features(features))


def test_hostile_names_stay_inside_the_copy_and_load_again(tmp_path):
    rows = [
        ("../../up", "../../../etc/passwd"), ("/abs", "/etc/passwd"), ("..", ".."),
        (".hidden", ".hidden.jpg"), ("N/A", "a/b\\c"), ("Plum", "x.txt"), ("Plum", "y/x.txt"),
        ("Plum", "x.txt-2.jpg"), ("Plum", ""), ("Plum", "z.JPEG"),
    ]  # fmt: skip
    parts = check_images(RawRows({"train": rows_of(rows)}), DataArguments("hostile")).parts
    folder = tmp_path / "deep" / "er" / "photos"
    assert write_copy(parts, {}, folder) == len(rows)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert len(tree(tmp_path)) == len(tree(folder)) == len(rows)
    photos = find_image_files(folder)["train"]
    assert len(photos) == len(rows)
    assert {photo.label for photo in photos} == {
        "_.._.._up", "_abs", "__", "_.hidden", "N_A", "Plum",
    }  # fmt: skip


def table_of(plain: Path, folder: Path, *more: tuple[str, str]) -> Path:
    """A table that names photos elsewhere, and others beside it."""
    rows = [(str(path), path.parent.name) for path in sorted(plain.rglob("*.png"))]
    folder.mkdir()
    lines = [f"{path},{label}\n" for path, label in [*rows, *more]]
    (folder / "a.csv").write_text("path,label\n" + "".join(lines))
    return folder / "a.csv"


def test_photos_outside_of_the_tables_folder_are_copied_with_a_warning(plain, tmp_path, caplog):
    table = table_of(plain, tmp_path / "in")
    split_folder(table, tmp_path / "out", repair="copy")
    assert "30 of the photos that are copied lie outside the table's folder: " in caplog.text


def test_photos_of_an_archive_are_not_outside_though_the_cache_is_a_relative_path(
    plain, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HFFRUITS_CACHE", "in/../cache")
    archive = shutil.make_archive(str(tmp_path / "in/plain"), "zip", plain.parent, plain.name)
    split_folder(archive, tmp_path / "out", repair="copy")
    assert len(list((tmp_path / "out" / "photos").rglob("*.png"))) == 30
    assert "outside" not in caplog.text


def test_a_file_of_two_labels_is_an_error_that_a_repair_leaves_out(plain, tmp_path):
    path = sorted(plain.rglob("*.png"))[0]
    table = table_of(plain, tmp_path / "in", (str(path), FRUITS[1]))
    with pytest.raises(InputError, match=r"1 file with more than one label"):
        split_folder(table, tmp_path / "out")
    left_out = split_folder(table, tmp_path / "out", repair="list")["left_out"]
    assert left_out == {"in several classes": 2}


def test_many_photos_of_one_name_each_get_their_own(tmp_path):
    rows = [("Plum", f"{number}/photo.jpg") for number in range(30)]
    parts = check_images(RawRows({"train": rows_of(rows)}), DataArguments("one name")).parts
    write_copy(parts, {}, tmp_path / "photos")
    files = sorted((tmp_path / "photos" / "train" / "Plum").iterdir())
    contents = {file.read_bytes() for file in files}
    assert contents == {image["bytes"] for image in parts["train"].rows["image"]}
    assert {"photo.jpg", "photo-2.jpg", "photo-30.jpg"} <= {file.name for file in files}


def test_no_two_photos_of_a_copy_lie_in_one_place_where_file_systems_fold_case(tmp_path, caplog):
    rows = [
        ("Plum", "Apple/1.jpg"), ("Plum", "apple/1.jpg"), ("Plum", "a/1.JPG"), ("A/B", "1.jpg"),
        ("A_B", "1.jpg"), ("a_b", "1.jpg"), ("CON", "nul.jpg"), ("Fig.", "1.jpg"),
        ("Fig_", "1.jpg"), ("Jalapeño", "ñ.jpg"), ("Jalapeño", normalize("NFD", "Ñ.jpg")),
        ("Plum: red", "a:b.jpg"), ("Plum? red", "a?b.jpg"),
    ]  # fmt: skip
    parts = check_images(RawRows({"train": rows_of(rows)}), DataArguments("folded")).parts
    assert write_copy(parts, {"Plum: red": "Plum/x"}, tmp_path / "photos") == len(rows)
    files = list(tree(tmp_path / "photos"))
    assert len({file_key(path) for path in files}) == len(files) == len(rows)
    for path in files:
        assert all(file_name(part) == part for part in path.split("/"))
    folders = {file_key(path.rpartition("/")[0]) for path in files}
    assert len(folders) == len(set(parts["train"].rows["label"]))  # none holds two classes
    assert "class CON: its folder is called _CON" in caplog.text


def test_a_repair_that_would_leave_nothing_of_a_class_is_refused(tmp_path):
    for number in range(8):
        for name in FRUITS[:2]:
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            draw(name, number).save(tmp_path / "in" / name / f"{number}.png")
    (tmp_path / "in" / "Odd").mkdir()
    for number in range(3):
        shutil.copy(tmp_path / "in" / FRUITS[0] / f"{number}.png", tmp_path / "in" / "Odd")
    with pytest.raises(InputError, match="Odd: nothing of it is left after the repair"):
        split_folder(tmp_path / "in", tmp_path / "out", repair="list")


@pytest.mark.parametrize(
    ("form", "suffix"),
    [("HEIF", "heic"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tiff"), ("JPEG2000", "jp2")],
)
def test_a_photo_without_a_suffix_gets_that_of_its_format(tmp_path, form, suffix):
    parts = check_images(
        RawRows({"train": rows_of([("Plum", "photo")], form=form)}), DataArguments(form)
    ).parts
    write_copy(parts, {}, tmp_path / "photos")
    assert list(tree(tmp_path / "photos")) == [f"train/Plum/photo.{suffix}"]


def test_a_full_disk_is_explained(plain, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", refuse)
    with pytest.raises(InputError, match=r"stopped \(No space left on device\)\. Free space"):
        split_folder(plain, tmp_path / "out", repair="copy")


# ---- what is chosen ----


def test_of_near_duplicates_the_test_keeps_its_own_then_validation():
    rows = rows_of([("Lime", name) for name in "abcdef"])
    shared = {"train": [0, 1, 2, 3], "validation": [0, 1, 4], "test": [0, 5]}
    splits = {split: rows.select(some) for split, some in shared.items()}
    parts = check_images(RawRows(splits), DataArguments("three splits")).parts
    repairs = choose_repairs(parts)
    assert repairs == {
        "train": {
            0: "near-duplicate of a#3 in test",
            1: "near-duplicate of b#2 in validation",
        },
        "validation": {0: "near-duplicate of a#3 in test"},
        "test": {},
    }
    kept = {split: part.rows["path"][:] for split, part in leave_out(parts, repairs).items()}
    assert kept == {"train": ["c", "d"], "validation": ["b#2", "e"], "test": ["a#3", "f"]}


def test_of_near_duplicates_in_two_classes_the_few_go(tmp_path: Path):
    for name in FRUITS:
        (tmp_path / name).mkdir()
        for number in range(6):
            draw(name, number).save(tmp_path / name / f"{number}.png")
    for quality in (95, 90, 85):
        draw("Apple", 0).save(tmp_path / "Apple" / f"again{quality}.jpg", quality=quality)
    draw("Apple", 0).save(tmp_path / "Banana" / "wrong.jpg", quality=80)
    write_split(
        DataArguments(data_dir=str(tmp_path)), output_dir=tmp_path / "../out", repair="list"
    )
    lines = (tmp_path / "../out/exclude.txt").read_text().splitlines()[1:]
    assert lines == ["Banana/wrong.jpg\tin several classes: Apple, Banana"]


def test_leaks_of_own_splits_give_a_warning(faulty: Path, tmp_path: Path, caplog):
    write_split(DataArguments(data_dir=str(faulty)), output_dir=tmp_path / "lists")
    assert "2 of 10 test photos have a near-duplicate in train" in caplog.text


def test_a_repair_also_fixes_the_split_that_it_makes(tmp_path: Path):
    """Each shop has a copy of another shop's photo, so that a split by shop parts them."""
    for shop in range(6):
        for name in FRUITS:
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            for number in range(2):
                image = draw(name, 10 * shop + number)
                image.save(tmp_path / "data" / name / f"shop{shop}-{number}.png")
            copy = draw(name, 10 * ((shop + 1) % 6))
            copy.save(tmp_path / "data" / name / f"shop{shop}-copy.jpg", quality=90)
    arguments = DataArguments(data_dir=str(tmp_path / "data"), group_by=r"(shop\d)")
    write_split(arguments, output_dir=tmp_path / "clean", repair="copy")
    fixed = load_fruits(tmp_path / "clean/photos")
    assert fixed.leaks == {"validation": 0, "test": 0}
    assert write_split(arguments, output_dir=tmp_path / "lists").record["left_out"] == {}


def test_a_home_is_expanded_in_the_name_of_the_output(plain, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write_split(plain, output_dir="~/lists").folder == tmp_path / "lists"
    assert (tmp_path / "lists/train.txt").is_file()


def test_classes_of_a_copy_are_read_again_though_they_sound_like_splits(tmp_path):
    labels = ["test", "Images", "Lime"]
    rows = [(paint(tmp_path / f"{n}.png", seed=n).name, labels[n % 3]) for n in range(18)]
    text = "".join(f"{path},{label}\n" for path, label in rows)
    (tmp_path / "all.csv").write_text(f"path,label\n{text}")
    copied = write_split(str(tmp_path / "all.csv"), output_dir=tmp_path / "out", repair="copy")
    names = load_fruits(copied.photos)["train"].features["label"].names
    assert names == ["Lime", "_Images", "_test"]
