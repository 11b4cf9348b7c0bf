"""`hffruits explore`, end to end: the page, the JSON file, the lists, and commands that fix."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.drawing import FRUITS, draw_fruit

import hffruits.exploration.report
import hffruits.exploration.run
from hffruits.cli.main import main
from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.sources import open_source
from hffruits.data.validation import check_images, join_parts
from hffruits.exploration.label_errors import LabelErrors
from hffruits.exploration.report import _varied, mean_image, show_histograms
from hffruits.exploration.run import explore, scan_data
from hffruits.exploration.sampling import draw_evenly
from hffruits.exploration.split_dataset import split as write_split


def explore_folder(root: Path | None, output: Path, **options) -> dict:
    return explore(DataArguments(data_dir=root and str(root)), output_dir=output, **options).record


def findings_of(record: dict) -> dict[str, dict]:
    return {finding["id"]: finding for finding in record["findings"]}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Path:
    """Four drawn fruits with a leak, a photo in two classes, a broken file and a dark photo."""
    root = tmp_path_factory.mktemp("faulty") / "photos"
    for split, count in {"train": 10, "val": 3}.items():
        for name in list(FRUITS)[:4]:
            folder = root / split / ("Stone fruit" if name < "B" else "") / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = draw_fruit(name, seed=100 * len(split) + index, size=112)
                image.save(folder / f"{index}.jpg")
    banana, cherry = root / "train/Banana", root / "train/Blueberry"
    Image.open(banana / "1.jpg").save(root / "val/Banana/leak.jpg", quality=60)
    Image.open(banana / "2.jpg").save(cherry / "conflict.jpg", quality=60)
    Image.open(banana / "3.jpg").point(lambda value: value // 8).save(banana / "dark.jpg")
    (banana / "broken.jpg").write_text("404 Not Found")
    return root


@pytest.fixture(scope="module")
def explored(faulty: Path, tmp_path_factory) -> tuple[dict, Path]:
    output = tmp_path_factory.mktemp("explorations") / "my exploration"
    return explore_folder(faulty, output), output


def test_the_json_file_says_what_is_returned_and_names_files(explored: tuple[dict, Path], faulty):
    record, output = explored
    assert json.loads((output / "explore.json").read_text("utf-8")) == record
    assert record["summary"]["splits"] == {"train": 42, "validation": 13}
    assert record["summary"]["embedded"] == record["summary"]["images"] == 55
    assert record["formats"] == {"JPEG": 55}
    assert record["classes"]["Apple"] == {
        "coarse": "Stone fruit", "counts": {"train": 10, "validation": 3},
    }  # fmt: skip
    found = findings_of(record)
    assert {"leaks", "conflicts", "unreadable", "light"} <= set(found)
    assert found["leaks"]["groups"] == [["train/Banana/1.jpg", "val/Banana/leak.jpg"]]
    for finding in found.values():
        named = [path for group in finding.get("groups", []) for path in group]
        for path in named + finding.get("files", []):
            assert (faulty / path).is_file()


def test_the_page_holds_everything_and_asks_no_network(explored: tuple[dict, Path]):
    record, output = explored
    page = (output / "explore.html").read_text("utf-8")
    sources = re.findall(r'\b(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"""(?:url\(|import\s*)["']?(?:https?:)?//""", page)
    for finding in record["findings"]:
        assert finding["title"].replace("'", "&#39;") in page
    for part in ("Apple", "Aspect ratio", "t-SNE", "train/Banana/dark.jpg"):
        assert part in page


def test_lists_are_what_exclude_reads(explored: tuple[dict, Path], faulty: Path):
    record, output = explored
    assert findings_of(record)["light"]["command"] == shlex.join(
        ["hffruits", "train", str(faulty), "--exclude", str(output / "light.txt")]
    )
    arguments = DataArguments(
        data_dir=str(faulty), exclude=str(output / "light.txt"), max_unreadable_fraction=1.0
    )
    checked = check_images(open_source(arguments), arguments)
    left = set(join_parts(list(checked.parts.values())).rows["path"])
    assert "train/Banana/dark.jpg" not in left and len(left) == 54


def test_commands_fix_what_was_found(
    explored: tuple[dict, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for id in ("leaks", "conflicts"):
        shutil.rmtree("clean", ignore_errors=True)
        words = shlex.split(findings_of(explored[0])[id]["command"])
        assert main(words[1:]) == 0
    fixed = findings_of(explore_folder(tmp_path / "clean/photos", tmp_path / "again", max_images=0))
    assert not {"leaks", "conflicts", "unreadable"} & set(fixed)


def test_a_second_run_replaces_lists_and_keeps_what_was_excluded(faulty: Path, tmp_path: Path):
    (tmp_path / "outliers.txt").write_text("# of an earlier exploration\nx.jpg\n")
    (tmp_path / "mine.txt").write_text("# mine\ntrain/Banana/0.jpg\ttoo green\n")
    arguments = DataArguments(data_dir=str(faulty), exclude=str(tmp_path / "mine.txt"))
    record = explore(arguments, output_dir=tmp_path, max_images=0).record
    assert not (tmp_path / "outliers.txt").exists()
    lines = (tmp_path / "light.txt").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == [
        "train/Banana/dark.jpg", "train/Banana/0.jpg",
    ]  # fmt: skip
    assert record["summary"]["images"] == 54
    command = shlex.split(findings_of(record)["light"]["command"])
    assert command[-2:] == ["--exclude", str(tmp_path / "light.txt")]  # the last one counts


def test_without_features_there_are_no_label_errors(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hffruits.exploration.run, "embed_images", None)
    record = explore_folder(faulty, tmp_path, max_images=0)
    assert record["summary"]["embedded"] == 0
    assert not {"label_errors", "outliers"} & set(findings_of(record))
    assert "t-SNE" not in (tmp_path / "explore.html").read_text("utf-8")


def test_findings_by_features_of_some_photos_say_so(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def embed(sources, *, total: int, max_pixels: int) -> np.ndarray:
        assert len(list(sources)) == total == 20
        return np.random.default_rng(0).random((total, 8), np.float32)

    nothing = np.zeros(0, int)
    monkeypatch.setattr(hffruits.exploration.run, "embed_images", embed)
    monkeypatch.setattr(
        hffruits.exploration.run,
        "find_label_errors",
        lambda *_: LabelErrors(np.array([3]), np.array([0])),
    )
    monkeypatch.setattr(hffruits.exploration.run, "find_outliers", lambda *_: nothing)
    record = explore_folder(faulty, tmp_path, max_images=20)
    finding = findings_of(record)["label_errors"]
    assert finding["title"] == "1 photo may have the wrong label (of 20 checked)"
    assert "No photo unlike all others (of 20 checked)" in record["passed"]
    assert record["summary"]["embedded"] == 20


# ---- unusual data ----


def test_two_classes_of_two_photos(make_folder, tmp_path: Path):
    record = explore_folder(make_folder({"Apple": 2, "Banana": 2}), tmp_path / "exploration")
    assert record["summary"]["images"] == 4
    assert (tmp_path / "exploration/explore.html").is_file()


def test_one_class_is_explored_too(make_folder, tmp_path: Path):
    record = explore_folder(make_folder({"Apple": 12}), tmp_path / "exploration")
    assert findings_of(record)["one_class"]["severity"] == "high"
    assert record["summary"]["embedded"] == 12


def test_twelve_copies_of_one_photo_are_one_group(make_folder, tmp_path: Path):
    root = make_folder({"Apple": 1, "Banana": 1})
    for index in range(6):
        for name in ("Apple", "Banana"):
            shutil.copy(root / "Apple/0.jpg", root / name / f"same-{index}.jpg")
    record = explore_folder(root, tmp_path / "exploration")
    assert len(findings_of(record)["conflicts"]["groups"]) == 1


def test_only_broken_files_end_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    for name in ("Apple", "Banana"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "0.jpg").write_text("nothing")
    assert main(["explore", str(tmp_path / "photos"), "--output_dir", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.rstrip().count("\n") <= 2  # two warnings of files
    assert not (tmp_path / "a").exists()


def test_an_output_folder_within_the_data_is_refused(faulty: Path):
    with pytest.raises(InputError, match="lies in the data folder"):
        explore_folder(faulty, faulty / "exploration")
    assert not (faulty / "exploration").exists()


def test_names_that_mean_harm_stay_names(tmp_path: Path):
    names = ["<script>alert(1)</script>", "a b'c\"d", "$(touch pwned)", "#1 梨", "-rf", "new\nline"]
    root = tmp_path / "my 'photos' & more"
    for number, name in enumerate(names):
        folder = root / name.replace("/", "_")
        folder.mkdir(parents=True)
        for index in range(2):
            draw_fruit("Apple", seed=10 * number + index, size=64).save(folder / f"{index}.png")
    record = explore_folder(root, tmp_path / "o;ut", max_images=0)
    assert len(record["classes"]) == len(names)
    page = (tmp_path / "o;ut/explore.html").read_text("utf-8")
    assert "<script>alert" not in page
    finding = findings_of(record)["small_photos"]
    words = shlex.split(finding["command"])
    assert words == [
        "hffruits", "train", str(root), "--exclude", str(tmp_path / "o;ut/small_photos.txt"),
    ]  # fmt: skip
    lines = Path(words[-1]).read_text("utf-8").rstrip("\n").split("\n")[1:]
    assert len(finding["files"]) == 12 and len(lines) == 12
    arguments = DataArguments(data_dir=str(root), exclude=words[-1], max_unreadable_fraction=1.0)
    with pytest.raises(InputError, match="leaves nothing of train"):  # it names each
        check_images(open_source(arguments), arguments)


@pytest.mark.slow
def test_many_classes_have_fewer_samples_each(
    make_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hffruits.exploration.report, "THUMB", 16)
    root = make_folder({f"Class {number:04d}": 2 for number in range(400)})
    record = explore_folder(root, tmp_path / "exploration", max_images=0)
    assert len(record["classes"]) == 400
    small = findings_of(record)["small_classes"]
    assert len(small["classes"]) == 400 and small["effect"].endswith("(2), ....")
    assert (tmp_path / "exploration/explore.html").stat().st_size < 4_000_000


def test_a_folder_that_cannot_be_made_is_an_error(make_folder, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be written"):
        explore_folder(make_folder({"Apple": 2, "Banana": 2}), tmp_path / "file" / "exploration")


# ---- parts ----


def test_draw_evenly_takes_as_many_of_each_class_as_there_are():
    labels = np.repeat(["a", "b", "c"], [100, 10, 3])
    rows = draw_evenly(labels, 23, seed=0)
    assert np.unique(labels[rows], return_counts=True)[1].tolist() == [10, 10, 3]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, draw_evenly(labels, 23, seed=0))
    assert (rows != draw_evenly(labels, 23, seed=1)).any()
    np.testing.assert_array_equal(draw_evenly(labels, 200, seed=0), np.arange(113))
    assert not len(draw_evenly(labels, 0, seed=0))


def test_the_mean_image_has_the_mean_light_and_colour(tmp_path: Path):
    for index, colour in enumerate([(200, 20, 20), (100, 120, 20)]):
        (tmp_path / "Apple").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"Apple/{index}.png")
    (tmp_path / "Lime").mkdir()
    Image.new("RGB", (64, 64), "lime").save(tmp_path / "Lime/0.png")
    checked, _ = scan_data(DataArguments(data_dir=str(tmp_path)), keep=0, seed=0)
    part = checked.parts["train"]
    mean = mean_image(part.records[[label == "Apple" for label in part.rows["label"]]])
    assert mean.size == (32, 32)
    np.testing.assert_allclose(np.asarray(mean), np.full((32, 32, 3), [150, 70, 20]), atol=3)


def test_histograms_of_constant_and_of_long_tailed_values(faulty: Path):
    part = scan_data(DataArguments(data_dir=str(faulty)), keep=0, seed=0)[0].parts["train"]
    records = np.repeat(part.records[:1], 1000)
    records["width"], records["height"] = 300, 200
    charts = {chart["name"]: chart for chart in show_histograms(records)}
    assert charts["Width"]["edges"][0] == 299.5 and charts["Width"]["edges"][-1] == 300.5
    assert charts["Aspect ratio"]["edges"][12] == 1.5
    for chart in charts.values():
        assert sum(chart["counts"]) == 1000 and max(chart["counts"]) == 1000
        assert len(chart["edges"]) == 25 and "last bar" not in chart["help"]

    records["width"] = np.r_[np.arange(300, 600).repeat(3), np.full(98, 600), 5000, 9000]
    width = {chart["name"]: chart for chart in show_histograms(records)}["Width"]
    assert width["edges"][-1] == 600 and sum(width["counts"]) == 1000
    assert width["help"].endswith("The last bar holds all larger values.")

    records["width"] = np.r_[np.full(995, 300), 900, 900, 900, 900, 900]
    width = {chart["name"]: chart for chart in show_histograms(records)}["Width"]
    assert (width["counts"][0], width["counts"][-1], width["edges"][-1]) == (995, 5, 900)


def test_aspect_ratios_are_not_rounded_away(faulty: Path):
    part = scan_data(DataArguments(data_dir=str(faulty)), keep=0, seed=0)[0].parts["train"]
    records = np.repeat(part.records[:1], 100)
    records["width"], records["height"] = np.arange(900, 1000), 1000
    chart = next(c for c in show_histograms(records) if c["name"] == "Aspect ratio")
    assert len(set(chart["edges"])) == 25
    assert chart["edges"][0] == 0.9


def test_groups_show_each_split_and_class_first():
    class Data:
        splits = np.array(["train"] * 5 + ["test"])
        labels = np.array(["a", "a", "a", "b", "a", "a"])

    assert _varied([0, 1, 2, 3, 4, 5], Data) == [0, 3, 5, 1, 2, 4]


def test_options_of_training_are_refused():
    for option in ({"augment": "none"}, {"image_cache": "decoded"}, {"shuffle_buffer": 5}):
        with pytest.raises(InputError, match="acts in training only"):
            explore("fruits", **option)
        with pytest.raises(InputError, match="acts in training only"):
            write_split("fruits", **option)
