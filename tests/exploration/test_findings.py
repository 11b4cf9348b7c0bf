"""Each check finds planted faults, has no false alarms, and names a fix."""

import io
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from support.drawing import draw_fruit

from hffruits.data.arguments import DataArguments
from hffruits.data.validation import join_parts
from hffruits.exploration.findings import (
    CHECKS,
    LISTED,
    Finding,
    ScannedData,
    as_record,
    run_checks,
)
from hffruits.exploration.label_errors import LabelErrors
from hffruits.exploration.run import scan_data
from hffruits.training.parser import parse_train_arguments

FRUITS = ("Apple", "Banana", "Kiwi")


@pytest.fixture(scope="module")
def faultless(tmp_path_factory) -> Path:
    """Three classes of drawn fruits, 20 each to train on, that no check has anything against."""
    root = tmp_path_factory.mktemp("faultless")
    for split, count in {"train": 20, "val": 3}.items():
        for name in FRUITS:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                image = draw_fruit(name, seed=1000 * len(split) + index, size=112)
                image.save(root / split / name / f"{index}.jpg", quality=92)
    return root


@pytest.fixture
def photos(faultless: Path, tmp_path: Path) -> Path:
    """A copy of them to plant faults in."""
    return shutil.copytree(faultless, tmp_path / "photos")


def scan(root: Path) -> ScannedData:
    checked, _ = scan_data(DataArguments(data_dir=str(root)), keep=0, seed=0)
    part = join_parts(list(checked.parts.values()))
    labels = np.array(part.rows["label"][:])
    splits = np.repeat(list(checked.parts), [len(p.rows) for p in checked.parts.values()])
    names = sorted(set(labels.tolist()))
    source = shlex.quote(str(root))
    return ScannedData(part, splits, labels, checked.skipped, source, classes=names)


def found(data: ScannedData | Path) -> dict[str, Finding]:
    data = scan(data) if isinstance(data, Path) else data
    return {finding.id: finding for finding in run_checks(data)[0]}


def paths_of(data: ScannedData, finding: Finding) -> list[set[str]]:
    paths = data.part.rows["path"][:]
    return [{paths[row] for row in group} for group in finding.groups]


def recompress(source: Path, target: Path) -> None:
    Image.open(source).save(target, quality=60)


def test_photos_without_faults_pass_every_check(faultless: Path):
    findings, passed = run_checks(scan(faultless))
    assert findings == []
    assert len(passed) == len(CHECKS) - 6  # without notes, and what needs a backbone
    assert "No near-duplicates across splits" in passed


def test_a_leak_is_a_group_of_both_paths(photos: Path):
    recompress(photos / "train/Apple/3.jpg", photos / "val/Apple/leak.jpg")
    data = scan(photos)
    finding = found(data)["leaks"]
    assert paths_of(data, finding) == [{"train/Apple/3.jpg", "val/Apple/leak.jpg"}]
    assert (finding.severity, finding.title) == (
        "high", "1 photo held out for validation or test has a near-duplicate in another split",
    )  # fmt: skip
    assert set(found(data)) == {"leaks"}


def test_a_photo_in_two_classes_is_a_conflict(photos: Path):
    recompress(photos / "train/Apple/3.jpg", photos / "train/Kiwi/copy.jpg")
    data = scan(photos)
    assert paths_of(data, found(data)["conflicts"]) == [
        {"train/Apple/3.jpg", "train/Kiwi/copy.jpg"}
    ]
    assert set(found(data)) == {"conflicts"}


def test_broken_files_come_with_their_reasons(photos: Path):
    (photos / "train/Apple/empty.jpg").touch()
    (photos / "train/Apple/text.jpg").write_text("404 Not Found")
    half = (photos / "train/Apple/1.jpg").read_bytes()
    (photos / "train/Apple/half.jpg").write_bytes(half[: len(half) // 2])
    finding = found(photos)["unreadable"]
    reasons = dict(finding.files)
    assert set(reasons) == {f"train/Apple/{name}.jpg" for name in ("empty", "text", "half")}
    assert reasons["train/Apple/empty.jpg"] == "empty file (0 bytes)"
    assert finding.severity == "medium"  # 3 of 72


def test_exact_and_near_duplicates_within_a_class_are_separate_findings(photos: Path):
    shutil.copy(photos / "train/Apple/3.jpg", photos / "train/Apple/same.jpg")
    recompress(photos / "train/Kiwi/3.jpg", photos / "train/Kiwi/near.jpg")
    data = scan(photos)
    result = found(data)
    assert paths_of(data, result["exact_duplicates"]) == [
        {"train/Apple/3.jpg", "train/Apple/same.jpg"}
    ]
    assert paths_of(data, result["near_duplicates"]) == [
        {"train/Kiwi/3.jpg", "train/Kiwi/near.jpg"}
    ]
    assert set(result) == {"exact_duplicates", "near_duplicates"}


CORRUPTIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "small_photos": lambda image: image.resize((60, 60)),
    "blurred": lambda image: image.resize((300, 300)).filter(ImageFilter.GaussianBlur(6)),
    "light": lambda image: ImageEnhance.Brightness(image).enhance(0.15),
    "odd_shapes": lambda image: image.resize((400, 110)),
}


@pytest.mark.parametrize("id", CORRUPTIONS)
def test_a_corrupted_photo_is_found_and_no_other(photos: Path, id: str):
    CORRUPTIONS[id](draw_fruit("Apple", seed=77)).save(photos / "train/Apple/corrupted.jpg")
    data = scan(photos)
    assert paths_of(data, found(data)[id]) == [{"train/Apple/corrupted.jpg"}]
    assert set(found(data)) == {id}


def test_fog_is_found_by_its_contrast(photos: Path):
    fog = ImageEnhance.Contrast(draw_fruit("Apple", seed=77)).enhance(0.08)
    fog.save(photos / "train/Apple/fog.jpg")
    data = scan(photos)
    assert paths_of(data, found(data)["light"]) == [{"train/Apple/fog.jpg"}]


@pytest.mark.parametrize("ground", ["white", "black"])
def test_a_fruit_on_a_plain_ground_is_neither_blurred_nor_badly_lit(photos: Path, ground: str):
    plain = Image.new("RGB", (300, 300), ground)
    plain.paste(draw_fruit("Apple", seed=77, size=60), (120, 120))
    plain.save(photos / "train/Apple/product.jpg")
    assert found(photos) == {}


def test_counts_of_classes(photos: Path):
    for index in range(5, 20):
        (photos / f"train/Kiwi/{index}.jpg").unlink()
    for index in range(3):
        (photos / f"val/Banana/{index}.jpg").unlink()
    for index in range(20, 30):
        draw_fruit("Apple", seed=index, size=112).save(photos / f"train/Apple/{index}.jpg")
    result = found(photos)
    assert result["small_classes"].classes == ["Kiwi"]
    assert "Kiwi (5)" in result["small_classes"].effect
    assert result["imbalance"].title == "Apple has 30 training photos, Kiwi 5"
    assert result["imbalance"].severity == "low"
    assert result["missing_classes"].classes == ["Banana"]
    assert "validation lacks Banana" in result["missing_classes"].effect
    assert set(result) == {"small_classes", "imbalance", "missing_classes"}


def test_findings_that_training_would_refuse_are_the_most_severe(photos: Path):
    shutil.rmtree(photos / "train/Kiwi")
    finding = run_checks(scan(photos))[0][0]
    assert (finding.id, finding.severity, finding.classes) == ("unknown_classes", "high", ["Kiwi"])
    assert finding.title == "1 class is held out, but train lacks it"
    for folder in ("train/Banana", "val/Banana", "val/Kiwi"):
        shutil.rmtree(photos / folder)
    assert found(photos)["one_class"].title == "Apple is the only class"


def test_a_class_of_one_scene_is_found(photos: Path):
    scene = draw_fruit("Pear", seed=5, size=160)
    (photos / "train/Pear").mkdir()
    for index in range(20):
        moved = scene.crop((index % 4, index // 4, 150 + index % 4, 150 + index // 4))
        moved.save(photos / f"train/Pear/{index}.jpg")
    finding = found(photos)["one_scene"]
    assert finding.classes == ["Pear"]
    assert list(finding.notes.values()) == ["20 of Pear's 20 photos"]


def test_doubtful_labels_say_of_how_many(faultless: Path):
    data = replace(scan(faultless), embedded=30)
    data = replace(
        data, label_errors=LabelErrors(np.array([4]), np.array([2])), outliers=np.array([5, 6])
    )
    result = found(data)
    assert result["label_errors"].title == "1 photo may have the wrong label (of 30 checked)"
    assert result["label_errors"].notes == {4: "looks like Kiwi"}
    assert result["label_errors"].severity == "high"  # 1 of 30
    assert result["outliers"].title == "2 photos unlike those of any class (of 30 checked)"
    nothing = np.zeros(0, int)
    data = replace(data, label_errors=LabelErrors(nothing, nothing), outliers=nothing)
    assert "No doubtful labels (of 30 checked)" in run_checks(data)[1]
    data = replace(data, embedded=len(data.labels))
    assert "No doubtful labels" in run_checks(data)[1]


def test_commands_are_quoted_and_understood(photos: Path):
    CORRUPTIONS["blurred"](draw_fruit("Apple", seed=77)).save(photos / "train/Apple/soft.jpg")
    data = replace(scan(photos), source="--dataset_name user/fruits", lists=Path("my report"))
    command = found(data)["blurred"].command
    assert command == (
        "hffruits train --dataset_name user/fruits --exclude 'my report/blurred.txt'"
    )
    arguments, *_ = parse_train_arguments(shlex.split(command)[2:])
    assert (arguments.dataset_name, arguments.exclude) == (
        "user/fruits",
        "my report/blurred.txt",
    )
    samples = found(replace(data, source=""))["blurred"].command
    assert samples == "hffruits train --exclude 'my report/blurred.txt'"


def test_records_have_files_groups_or_classes(photos: Path):
    recompress(photos / "train/Apple/3.jpg", photos / "val/Apple/leak.jpg")
    (photos / "train/Apple/empty.jpg").touch()
    CORRUPTIONS["odd_shapes"](draw_fruit("Apple", seed=77)).save(photos / "train/Apple/long.jpg")
    for index in range(12):
        (photos / f"train/Kiwi/{index}.jpg").unlink()
    data = scan(photos)
    paths = data.part.rows["path"][:]
    records = {id: as_record(finding, paths) for id, finding in found(data).items()}
    assert records["leaks"]["groups"] == [["train/Apple/3.jpg", "val/Apple/leak.jpg"]]
    assert records["unreadable"]["files"] == ["train/Apple/empty.jpg"]
    assert records["unreadable"]["notes"] == {"train/Apple/empty.jpg": "empty file (0 bytes)"}
    assert records["odd_shapes"]["files"] == ["train/Apple/long.jpg"]
    assert records["odd_shapes"]["notes"] == {"train/Apple/long.jpg": "3.6 to 1"}
    assert records["small_classes"]["classes"] == ["Kiwi"]
    assert "files" not in records["small_classes"]
    for record in records.values():
        assert record["title"] and record["effect"].endswith(".") and record["remedy"].endswith(".")


def test_the_worst_comes_first_and_every_check_is_listed(photos: Path):
    CORRUPTIONS["light"](draw_fruit("Apple", seed=77)).save(photos / "train/Apple/dark.jpg")
    recompress(photos / "train/Apple/3.jpg", photos / "val/Apple/leak.jpg")
    (photos / "train/Apple/empty.jpg").touch()
    findings, _ = run_checks(scan(photos))
    assert [finding.severity for finding in findings] == ["high", "medium", "low"]
    assert len(set(CHECKS)) == len(CHECKS) == 19
    assert set(CORRUPTIONS) < set(LISTED)


def test_a_single_split_says_nothing_of_leaks(photos: Path):
    shutil.rmtree(photos / "val")
    findings, passed = run_checks(scan(photos))
    assert findings == []
    assert not any("split" in text for text in passed)


def test_bytes_are_judged_like_files(photos: Path, tmp_path: Path):
    from datasets import Dataset

    images = sorted(photos.rglob("*.jpg"))
    file = io.BytesIO()
    ImageEnhance.Brightness(draw_fruit("Kiwi", seed=9)).enhance(0.1).save(file, "JPEG")
    contents = [path.read_bytes() for path in images] + [file.getvalue()]
    labels = [path.parent.name for path in images] + ["Kiwi"]
    Dataset.from_dict({"image": contents, "label": labels}).to_parquet(tmp_path / "train.parquet")
    data = scan(tmp_path / "train.parquet")
    assert [len(group) for group in found(data)["light"].groups] == [1]
