"""`hffruits evaluate` and `compare`, end to end, and the evaluation at the end of training."""

import csv
import io
import json
import math
import shutil
import tarfile
import tracemalloc
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score
from support.drawing import FRUITS, draw_fruit
from support.runs import launch, tiny_arguments
from transformers import pipeline

from hffruits.cli.main import main
from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.split_protocol import UNKNOWN, Sample
from hffruits.evaluation.calibration import calibrate
from hffruits.evaluation.comparison import McNemar, compare, compare_classes, compare_figures
from hffruits.evaluation.corruptions import CORRUPTIONS, SEVERITIES, measure_corruptions
from hffruits.evaluation.intervals import wilson_interval
from hffruits.evaluation.metrics import reliability
from hffruits.evaluation.predictions import Predictions, predict_samples, temperature_of
from hffruits.evaluation.results import measure
from hffruits.evaluation.run import evaluate, write_predictions
from hffruits.inference.classifier import FruitClassifier, Outputs
from hffruits.inference.few_shot import teach
from hffruits.models.heads import scale_logits
from hffruits.models.loading import load_model
from hffruits.training.run import train


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Drawn photos of the four classes, one broken, and a class that the model doesn't have."""
    root = tmp_path_factory.mktemp("mixed")
    for name in [*list(FRUITS)[:4], "Tomato"]:
        (root / name).mkdir()
        for index in range(6):
            image = draw_fruit(name if name in FRUITS else "Pear", seed=900 + index, size=72)
            image.save(root / name / f"{index}.png")
    (root / "Apple" / "broken.jpg").write_text("no image")
    return root


@pytest.fixture(scope="module")
def evaluated(trained: Path, mixed: Path, tmp_path_factory) -> tuple[dict, Path]:
    output = tmp_path_factory.mktemp("evaluations") / "mixed"
    noise = tmp_path_factory.mktemp("noise")
    for seed in range(8):
        grain = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(grain).save(noise / f"{seed}.png")
    arguments = DataArguments(data_dir=str(mixed))
    return evaluate(trained, arguments, output_dir=output, unknown_dir=noise).record, output


def test_figures_are_those_of_the_predictions(evaluated, trained: Path, mixed: Path):
    record, output = evaluated
    assert json.loads((output / "metrics.json").read_text()) == record
    with (output / "predictions.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    known = [row for row in rows if row["label"]]
    assert len(rows) == 30 and len(known) == record["images"] == 24
    labels, predicted = ([row[key] for row in known] for key in ("label", "predicted"))
    assert record["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert record["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    scores = np.array([float(row["score"]) for row in known])
    hits = np.array(labels) == np.array(predicted)
    assert record["ece"] == pytest.approx(reliability(scores, hits).ece, abs=1e-3)
    rejected = np.mean([row["known"] == "False" for row in known])
    assert record["rejected"] == pytest.approx(rejected)
    assert record["split"] == "all"
    (skipped,) = record["skipped"]
    assert "Apple/broken.jpg: not an image, or an unknown format" in skipped
    low, high = record["intervals"]["accuracy"]
    assert low <= record["accuracy"] <= high and high - low > 0.01


def test_other_classes_and_other_things_count_as_unknown(evaluated):
    unknown = evaluated[0]["unknown"]
    assert set(unknown) == {"other classes", next(k for k in unknown if k.startswith("noise"))}
    assert unknown["other classes"]["images"] == 6
    assert evaluated[0]["unknown_classes"] == {"Tomato": 6}
    assert "count as unknown: Tomato (6)" in (evaluated[1] / "report.html").read_text("utf-8")
    noise = next(value for key, value in unknown.items() if key.startswith("noise"))
    assert noise["auroc"] == 1.0 and noise["rejected"] == 1.0


def test_the_classifier_says_the_same(evaluated, trained: Path, mixed: Path):
    with (evaluated[1] / "predictions.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    files = sorted(mixed.rglob("*.png"))
    for found in FruitClassifier.from_pretrained(trained).predict(files):
        row = rows[found.path.relative_to(mixed).as_posix()]
        assert found.label == row["predicted"]
        assert found.score == pytest.approx(float(row["score"]), abs=1e-3)
        assert str(found.known) == row["known"]


def test_the_page_has_everything_inside(evaluated):
    page = (evaluated[1] / "report.html").read_text("utf-8")
    assert 'src="http' not in page
    for word in ("Confusion", "Confidence", "Unknown photos", "off by"):
        assert word.lower() in page.lower()


def test_a_run_is_measured_on_what_it_held_out(trained: Path, drawn_fruits: Path, tmp_path: Path):
    recorded = json.loads((trained / "metrics.json").read_text())
    for data in (DataArguments(), DataArguments(data_dir=str(drawn_fruits))):
        record = evaluate(trained, data, output_dir=tmp_path / "out").record
        assert record["split"] == "test" and record["images"] == 20
        for name in ("accuracy", "loss", "ece", "macro_f1", "coarse_accuracy"):
            assert record[name] == pytest.approx(recorded["test"][name], abs=1e-4), name
    validation = evaluate(
        trained, DataArguments(), output_dir=tmp_path / "v", split="validation"
    ).record
    assert validation["images"] == 12


def test_calibration_is_in_the_weights(trained: Path, drawn_fruits: Path):
    recorded = json.loads((trained / "metrics.json").read_text())
    model, _ = load_model(trained)
    temperature = model.config.calibration["temperature"]
    assert temperature != 1 and recorded["test"]["temperature"] == temperature
    file = next(drawn_fruits.glob("test/*/0.png"))
    fruits = FruitClassifier.from_pretrained(trained)
    (plain,) = pipeline("image-classification", str(trained))([str(file)], top_k=4)
    assert dict(fruits.predict(file).top) == pytest.approx(
        {row["label"]: row["score"] for row in plain}, abs=1e-4
    )
    before, _ = fruits.forward(torch.ones(1, 3, 64, 64))
    scale_logits(fruits.model, temperature)
    after, _ = fruits.forward(torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(after, before * temperature, rtol=1e-3, atol=1e-3)


def test_a_run_without_a_test_split_reports_validation(drawn_fruits: Path, tmp_path: Path):
    for split in ("train", "validation"):
        shutil.copytree(drawn_fruits / split, tmp_path / "data" / split)
    arguments = tiny_arguments(tmp_path / "data", tmp_path / "run", max_steps=1)
    metrics = train(*arguments)
    assert "test" not in metrics and metrics["validation"]["images"] == 12
    assert "Validation chose" in (tmp_path / "run/report.html").read_text("utf-8")
    assert "calibration error" in (tmp_path / "run/README.md").read_text("utf-8")


def test_a_model_that_diverged_is_reported(trained: Path, drawn_fruits: Path):
    fruits = FruitClassifier.from_pretrained(trained)
    with torch.no_grad():
        fruits.model.timm_model.get_classifier().weight.fill_(torch.nan)
    samples = [Sample(f.name, f, 0) for f in drawn_fruits.glob("test/Apple/*.png")]
    with pytest.raises(InputError, match=r"diverged.*lower learning_rate"):
        calibrate(fruits, samples, samples, reject_rate=0.05, max_pixels=10**6)


def test_calibrating_again_changes_nothing(trained: Path, drawn_fruits: Path):
    fruits = FruitClassifier.from_pretrained(trained)
    files = sorted(drawn_fruits.glob("validation/**/*.png"))
    samples = [Sample(str(f), f, fruits.labels.index(f.parent.name)) for f in files]
    before = fruits.predict(samples[0].source)
    temperature = temperature_of(fruits)
    calibrate(fruits, samples, samples, reject_rate=0.05, max_pixels=10**6)
    calibrate(fruits, samples, samples, reject_rate=0.05, max_pixels=10**6)
    assert temperature_of(fruits) == pytest.approx(temperature, rel=1e-3)
    assert fruits.predict(samples[0].source).score == pytest.approx(before.score, abs=1e-3)


def test_a_rate_of_zero_rejects_nothing(drawn_fruits: Path, tmp_path: Path):
    arguments = tiny_arguments(drawn_fruits, tmp_path, reject_rate=0.0, max_steps=1)
    train(*arguments)
    assert not (tmp_path / "prototypes.safetensors").exists()
    fruits = FruitClassifier.from_pretrained(tmp_path)
    assert fruits.predict(Image.effect_noise((64, 64), 90).convert("RGB")).known


def test_two_processes_count_each_image_once(trained: Path, drawn_fruits: Path, tmp_path: Path):
    run = launch([drawn_fruits, "--output_dir", tmp_path / "two", "--max_steps", "2"])
    assert run.returncode == 0, run.stderr[-2000:]
    recorded = json.loads((tmp_path / "two/metrics.json").read_text())["test"]
    assert recorded["images"] == 20
    assert sum(own["support"] for own in recorded["classes"].values()) == 20
    single = evaluate(tmp_path / "two", DataArguments(), output_dir=tmp_path / "single").record
    options = ["--output_dir", tmp_path / "both", "--split", "test"]
    run = launch([tmp_path / "two", *options], command="evaluate")
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count("Report    ") == 1  # one process prints
    both = json.loads((tmp_path / "both/metrics.json").read_text())
    for name in ("accuracy", "loss", "ece", "macro_f1", "rejected"):
        assert single[name] == pytest.approx(recorded[name], abs=1e-4), name
        assert both[name] == pytest.approx(single[name], abs=1e-4), name
    assert both["classes"] == single["classes"]


class Oracle:
    """Predicts as a classifier does, at no cost: the right class, by the image's first byte."""

    labels = tuple(f"class {number}" for number in range(50))
    prototypes = None
    ood_threshold = math.inf

    def __init__(self, config):
        self.config = config

    def infer(self, images, *, batch_size, **_):
        images = iter(images)
        while batch := list(islice(images, batch_size)):
            rows = torch.tensor([sample.source[0] for sample in batch])
            logits = 5 * torch.nn.functional.one_hot(rows, 50).float()
            yield Outputs(batch, logits, logits)

    def ood_score(self, features):
        return np.zeros(len(features), np.float32)


def test_many_predictions_take_little_memory(trained: Path):
    """The images would take 2 GB, their logits 40 MB."""
    count = 200_000
    samples = (Sample(f"{n:08d}.jpg", bytes([n % 50]) * 10_000, n % 50) for n in range(count))
    oracle = Oracle(load_model(trained)[0].config)
    oracle.config.coarse_labels = None
    tracemalloc.start()
    predictions = predict_samples(oracle, samples, batch_size=1024)
    found = measure(predictions, oracle)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["images"] == count and found["accuracy"] == 1.0
    assert peak < 400 * count  # half of it while parts are joined


def test_accuracy_at_a_coverage_is_as_certain_as_its_photos_are_many():
    count = 40
    labels = np.arange(count) % 50
    ranked = labels[:, None].copy()
    ranked[-10:] += 1  # the least confident are wrong
    predictions = Predictions(
        [f"{n}.jpg" for n in range(count)],
        labels=labels,
        ranked=ranked,
        scores=np.linspace(0.9, 0.5, count)[:, None],
        losses=np.zeros(count),
        uncalibrated=np.linspace(0.9, 0.5, count),
        ood_score=np.zeros(count),
        groups=np.arange(count),
    )
    found = measure(predictions, Oracle(SimpleNamespace()))
    intervals = found["accuracy_at_coverage_intervals"]
    assert found["accuracy_at_coverage"]["50%"] == 1.0
    assert intervals["50%"] == pytest.approx(wilson_interval(1, 20))
    assert intervals["100%"] == pytest.approx(wilson_interval(0.75, 40))
    assert found["intervals"]["accuracy"] == intervals["100%"]


def test_an_image_that_vanishes_is_left_out_with_a_warning(trained: Path, tmp_path: Path, caplog):
    draw_fruit("Apple", seed=1, size=64).save(tmp_path / "0.png")
    samples = [Sample(str(n), tmp_path / f"{n}.png", 0) for n in range(3)]
    predictions = predict_samples(FruitClassifier.from_pretrained(trained), samples, batch_size=2)
    assert predictions.paths == ["0"] and len(predictions.skipped) == 2
    assert "1.png" in caplog.text


def test_a_stream_is_evaluated_too(trained: Path, tmp_path: Path):
    data = DataArguments(data_dir=str(pack(tmp_path, 8)), streaming=True)
    record = evaluate(trained, data, output_dir=tmp_path / "out").record
    assert record["images"] == 8 and record["split"] == "all"
    with pytest.raises(InputError, match="corruptions: needs photos that stay"):
        evaluate(trained, data, output_dir=tmp_path / "out", corruptions=True)


def pack(folder: Path, count: int) -> Path:
    """A shard of drawn fruits, sorted by class."""
    shard = folder / "shard-000.tar"
    with tarfile.open(shard, "w") as tar:
        for number in range(count):
            name = list(FRUITS)[4 * number // count]
            file = io.BytesIO()
            draw_fruit(name, seed=number, size=64).save(file, "PNG")
            for suffix, content in (("png", file.getvalue()), ("txt", name.encode())):
                member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return shard


def test_a_streamed_run_is_measured_on_what_it_held_out(tmp_path: Path):
    shard = pack(tmp_path, 60)
    arguments = tiny_arguments(shard, tmp_path / "run", max_steps=1)
    arguments[0].streaming = True
    metrics = train(*arguments)
    record = evaluate(tmp_path / "run", DataArguments(), output_dir=tmp_path / "out").record
    assert record["split"] == "test" and record["images"] == metrics["data"]["images"]["test"]
    assert record["loss"] == pytest.approx(metrics["test"]["loss"], abs=1e-4)
    assert record["images"] < 20
    named = DataArguments(data_dir=str(shard))
    assert evaluate(tmp_path / "run", named, output_dir=tmp_path / "b").record["images"] < 20


def test_new_photos_need_no_training_split(trained: Path, drawn_fruits: Path, tmp_path: Path):
    shutil.copytree(drawn_fruits / "test", tmp_path / "new/test")
    data = DataArguments(data_dir=str(tmp_path / "new"))
    record = evaluate(trained, data, output_dir=tmp_path / "out").record
    assert record["split"] == "test" and record["images"] == 20
    with pytest.raises(InputError, match="split=validation: the data has test"):
        evaluate(trained, data, output_dir=tmp_path / "out", split="validation")


def test_a_row_without_an_image_is_left_out(trained: Path, tmp_path: Path):
    file = io.BytesIO()
    draw_fruit("Apple", seed=1, size=64).save(file, "PNG")
    rows = {"image": [{"bytes": file.getvalue(), "path": None}, None], "label": ["Apple"] * 2}
    features = Features({"image": datasets.Image(decode=False), "label": Value("string")})
    Dataset.from_dict(rows, features).to_parquet(tmp_path / "rows.parquet")
    data = DataArguments(data_dir=str(tmp_path / "rows.parquet"))
    record = evaluate(trained, data, output_dir=tmp_path / "out").record
    assert record["images"] == 1 and len(record["skipped"]) == 1


def test_what_is_said_of_the_data_goes_before_what_the_run_says(
    trained: Path, drawn_fruits: Path, tmp_path: Path, monkeypatch
):
    listed = (trained / "splits/test.txt").read_text().split()
    (tmp_path / "exclude.txt").write_text("\n".join(listed[:5]))
    monkeypatch.chdir(tmp_path)  # the run knows its data from anywhere
    lists = shutil.copytree(trained / "splits", tmp_path / "lists")
    (lists / "test.txt").write_text("\n".join(listed[5:]) + "\n")
    data = DataArguments(exclude="exclude.txt", split_lists=str(lists))
    assert evaluate(trained, data, output_dir=tmp_path / "out").record["images"] == 15


def test_training_photos_may_be_gone(drawn_fruits: Path, tmp_path: Path):
    root = shutil.copytree(drawn_fruits, tmp_path / "data")
    train(*tiny_arguments(root, tmp_path / "run", max_steps=1))
    next(root.glob("train/*/0.png")).unlink()
    assert (
        evaluate(tmp_path / "run", DataArguments(), output_dir=tmp_path / "out").record["images"]
        == 20
    )
    with pytest.raises(InputError, match=r"1 of \d+ photos are not in the data folder"):
        options = {"output_dir": tmp_path / "out", "split": "train"}
        evaluate(tmp_path / "run", DataArguments(), **options)
    moved = root.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"run: its photos were in .*/data, and aren't any more"):
        evaluate(tmp_path / "run", DataArguments(), output_dir=tmp_path / "out")
    named = DataArguments(data_dir=str(moved), split_lists=str(tmp_path / "run" / "splits"))
    assert evaluate(tmp_path / "run", named, output_dir=tmp_path / "out").record["images"] == 20


def test_a_foreign_record_is_an_error(trained: Path, tmp_path: Path):
    run = shutil.copytree(trained, tmp_path / "run")
    for text in ("{", "[]", '{"data": {}}', '{"data": {"nonsense": 1}, "training": {}}'):
        (run / "training_args.json").write_text(text)
        with pytest.raises(InputError, match="not as training wrote it"):
            evaluate(run, DataArguments(), output_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "holdout"}, "split=holdout: the data has train. Name one of them"),
        ({"tta": ("mirror",)}, "tta=mirror: unknown"),
        (
            {"data": DataArguments(streaming=True)},
            "without streaming. Evaluate it with streaming=False",
        ),
        ({"unknown_dir": Path("nowhere")}, "nowhere: no such folder"),
        ({"data": DataArguments(data_dir="nowhere")}, "nowhere: no such"),
        ({"model": "./nomodel"}, "nomodel: no such folder. Check the path of the trained model"),
    ],
)
def test_bad_input_gives_one_line(trained, mixed, tmp_path, options, message):
    data = options.pop("data", DataArguments(data_dir=str(mixed)))
    with pytest.raises(InputError, match=message) as caught:
        evaluate(options.pop("model", trained), data, output_dir=tmp_path / "out", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["max_unreadable_fraction", "validation_fraction", "test_fraction"]
)
def test_an_option_that_measuring_would_ignore_is_refused(name):
    with pytest.raises(InputError, match=f"^{name}: acts in training only"):
        evaluate("nomodel", DataArguments(**{name: 0.4}))


def test_foreign_classes_and_models_without_data_are_errors(trained, make_folder, tmp_path):
    cars = make_folder({"Car": 3, "Boat": 3})
    with pytest.raises(InputError, match=r"the model has none of its classes \(Boat, Car"):
        evaluate(trained, DataArguments(data_dir=str(cars)), output_dir=tmp_path / "out")
    bare = shutil.copytree(trained, tmp_path / "bare")
    (bare / "training_args.json").unlink()
    with pytest.raises(InputError, match="doesn't say what it was trained on"):
        evaluate(bare, DataArguments(), output_dir=tmp_path / "out")


def test_a_table_of_predictions_is_whole_or_not_there(tmp_path: Path):
    fruits = SimpleNamespace(labels=["Apple"], ood_threshold=1.0)
    columns = {"labels": [0], "predicted": [0], "confidence": [0.5], "ood_score": [0.0]}
    with pytest.raises(IndexError):  # after the first row
        write_predictions(
            SimpleNamespace(paths=["a", "b"], **columns), fruits, tmp_path / "predictions.csv"
        )
    assert not [*tmp_path.iterdir()]


def test_the_command_prints_figures(trained: Path, tmp_path: Path, capsys):
    assert main(["evaluate", str(trained), "--output_dir", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "Tested    accuracy 100.0% on 20 photos (95% confidence: 83.9% to 100.0%)\n"
    )
    assert f"Report    {tmp_path / 'out/report.html'}" in printed
    assert main(["evaluate", str(trained), "--split", "x", "--output_dir", str(tmp_path)]) == 2


# ---- two models ----


def test_no_difference_is_larger_than_all_there_is():
    labels = np.array([0, 1, 2])
    few = {"scores": np.full((3, 3), 1 / 3), "groups": labels}
    few |= dict.fromkeys(("losses", "uncalibrated", "ood_score"), np.zeros(3))
    ranks = [np.stack([(labels + first + rank) % 3 for rank in range(3)], 1) for first in (0, 1)]
    sides = [Predictions(list("abc"), labels, ranked, **few) for ranked in ranks]
    for row in compare_figures(*sides, list("abc"), None).values():
        assert -1 <= row["low"] <= row["difference"] <= row["high"] <= 1


@pytest.fixture(scope="module")
def worse(trained: Path, tmp_path_factory) -> Path:
    """The same model with the rows of two classes exchanged."""
    folder = tmp_path_factory.mktemp("worse") / "run"
    shutil.copytree(trained, folder)
    model, _ = load_model(folder)
    head = model.timm_model.get_classifier()
    with torch.no_grad():
        for parameter in (head.weight, head.bias):
            parameter[[0, 1]] = parameter[[1, 0]].clone()
    model.save_pretrained(folder)
    return folder


def test_the_better_model_is_named(trained: Path, worse: Path, tmp_path: Path):
    record = compare(worse, trained, DataArguments(), output_dir=tmp_path / "out").record
    assert json.loads((tmp_path / "out/compare.json").read_text()) == record
    assert record["mcnemar"] == {
        "both_right": 10, "only_a": 0, "only_b": 10, "both_wrong": 0,
        "groups_a": 0, "groups_b": 10, "p_value": 2 * 0.5**10,
    }  # fmt: skip
    accuracy = record["metrics"]["accuracy"]
    assert (accuracy["a"], accuracy["b"], accuracy["difference"]) == (0.5, 1.0, 0.5)
    assert 0.2 < accuracy["low"] < 0.5 < accuracy["high"] < 0.8
    assert record["verdict"].startswith(f"{trained} is better by 50.0 points")
    assert [row["difference"] for row in record["classes"]] == [1, 1, 0, 0]
    assert (tmp_path / "out/compare.html").stat().st_size > 10_000


def test_a_model_is_no_better_than_itself(trained: Path, tmp_path: Path, capsys, caplog):
    command = ["compare", str(trained), str(trained), "--output_dir", str(tmp_path / "out")]
    assert main(command) == 0
    said = "No difference can be shown: each of 20 photos is predicted right by both or by neither."
    out = capsys.readouterr().out
    assert said in out and "Macro F1" in out and "B - A (95 % interval)" in out
    assert main(command) == 0
    warned = f"{tmp_path / 'out'}: replacing its results. Set output_dir to keep both"
    assert warned in caplog.text
    caplog.clear()
    assert main([*command[:2], "./nothing", *command[3:]]) == 2  # nothing is replaced
    assert warned not in caplog.text
    page = (tmp_path / "out/compare.html").read_text("utf-8")
    assert "equal on every photo" in page and "0.0 to" not in page and "of one group" not in page


def test_photos_that_the_other_model_was_trained_on_give_a_warning(
    trained: Path, drawn_fruits: Path, tmp_path: Path, caplog
):
    other = shutil.copytree(trained, tmp_path / "other")
    train_list, test_list = (trained / f"splits/{s}.txt" for s in ("train", "test"))
    (other / "splits/train.txt").write_text(test_list.read_text() + train_list.read_text())
    compare(other, trained, DataArguments(), output_dir=tmp_path / "out")
    assert "was trained on 20 of these 20 photos" in caplog.text
    assert "But they were trained" in (tmp_path / "out/compare.html").read_text("utf-8")


def test_training_photos_are_known_in_a_copy_of_the_data(
    trained: Path, drawn_fruits: Path, tmp_path: Path, caplog
):
    moved = tmp_path / "moved"
    for number, file in enumerate(sorted(drawn_fruits.glob("t*/**/*.png"))):  # train and test
        (moved / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, moved / file.parent.name / f"{number}.png")
    record = evaluate(trained, str(moved), output_dir=tmp_path / "out").record
    assert record["trained_on"] == 32 and record["images"] == 52
    assert "was trained on 32 of these 52 photos" in caplog.text
    same = shutil.copytree(drawn_fruits, tmp_path / "same")
    lists = str(trained / "splits")
    record = evaluate(trained, str(same), output_dir=tmp_path / "b", split_lists=lists).record
    assert record["trained_on"] == 0 and record["images"] == 20


def test_a_taught_model_knows_the_photos_that_it_and_its_run_learned_from(
    trained: Path, drawn_fruits: Path, tmp_path: Path, caplog
):
    photos = shutil.copytree(drawn_fruits / "train", tmp_path / "photos")
    for name in ("Fig", "Date"):
        for number in range(3):
            file = photos / name / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            draw_fruit("Kiwi", seed=len(name) * 10 + number, size=64).save(file)
    taught = teach(trained, "Fig", photos / "Fig")
    teach(taught, "Date", photos / "Date", output_dir=tmp_path / "taught")
    record = evaluate(tmp_path / "taught", str(photos), output_dir=tmp_path / "out").record
    assert record["trained_on"] == record["images"] == 32 + 6
    assert "was trained on 38 of these 38 photos" in caplog.text
    assert "split_lists" not in caplog.text


def test_photos_that_a_model_was_trained_on_give_a_warning(trained: Path, tmp_path: Path, caplog):
    record = evaluate(trained, DataArguments(), output_dir=tmp_path / "out", split="train").record
    assert record["trained_on"] == record["images"] == 32
    assert "was trained on 32 of these 32 photos" in caplog.text
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "trained on 32 of these photos: its metrics are too optimistic" in page


def test_a_model_keeps_its_files(trained: Path):
    before = (trained / "metrics.json").read_bytes()
    for run in (evaluate, lambda *args, **options: compare(trained, *args, **options)):
        with pytest.raises(InputError, match="holds a model"):
            run(trained, DataArguments(), output_dir=trained)
    assert (trained / "metrics.json").read_bytes() == before


def test_mcnemar_is_the_exact_binomial_test():
    hits = np.array([1] * 6 + [0] * 10, bool)
    others = np.array([1] * 5 + [0] + [1] * 5 + [0] * 5, bool)
    test = McNemar.of(hits, others, np.arange(16))
    assert (test.both_right, test.only_a, test.only_b, test.both_wrong) == (5, 1, 5, 5)
    assert test.p_value == pytest.approx(2 * (1 + 6) / 2**6)  # P(X <= 1), X ~ Bin(6, 1/2), twice


def test_photos_of_one_group_count_once_in_mcnemars_test():
    hits, others = np.zeros(16, bool), np.array([1] * 9 + [0] * 7, bool)
    films = np.array([0] * 7 + [1, 2] + [3] * 7)  # the nine gained are frames of three films
    test = McNemar.of(hits, others, films)
    assert (test.only_b, test.groups_b, test.groups_a) == (9, 3, 0)
    assert test.p_value == pytest.approx(2 * 0.5**3)


def test_p_values_of_classes_allow_for_their_number():
    labels = np.repeat(np.arange(10), 12)
    worse, better = labels.copy(), labels.copy()
    worse[:6] = 1  # half of the first class wrong
    a, b = (
        SimpleNamespace(labels=labels, hits=some == labels, groups=np.arange(120))
        for some in (worse, better)
    )
    first = compare_classes(a, b, [str(k) for k in range(10)])[0]
    assert first["name"] == "0" and first["recall_a"] == 0.5
    assert first["p_value"] == pytest.approx(10 * 2 * 0.5**6)  # of the least of ten


def test_near_duplicates_widen_the_intervals_of_an_evaluation(trained, drawn_fruits, tmp_path):
    data = tmp_path / "data"
    for file in sorted(drawn_fruits.glob("test/**/*.png")):
        for copy in range(6):
            place = data / file.parent.name / f"{file.stem}-{copy}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    found = evaluate(trained, data, output_dir=tmp_path / "out").metrics
    once = evaluate(trained, drawn_fruits, split="test", output_dir=tmp_path / "once").metrics
    assert (found["images"], found["group_count"]) == (120, 20)
    assert found["intervals"]["accuracy"] == pytest.approx(once["intervals"]["accuracy"])
    shops = evaluate(trained, data, group_by="^(.)", output_dir=tmp_path / "shops").metrics
    assert shops["group_count"] < 5 and shops["accuracy"] == found["accuracy"]


def test_models_of_other_classes_are_not_compared(trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["label_names"][0] = "Quince"
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="not the same classes"):
        compare(trained, other, DataArguments(), output_dir=tmp_path / "out")


# ---- corrupted images ----


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_grows_with_its_severity_and_keeps_the_original(name: str):
    image = draw_fruit("Apple", seed=1, size=128)
    before = image.tobytes()
    small = np.asarray(image.resize((32, 32)), float)
    off = []
    for severity in range(SEVERITIES):
        corrupted = CORRUPTIONS[name](image, severity, np.random.default_rng(0))
        assert corrupted.mode == "RGB"
        off.append(np.abs(np.asarray(corrupted.resize((32, 32)), float) - small).mean())
    assert off[-1] > off[0] > 0
    assert image.tobytes() == before


def test_corruptions_are_measured_on_known_images(trained: Path, mixed: Path):
    fruits = FruitClassifier.from_pretrained(trained)
    files = sorted(mixed.glob("*/[01].png"))
    samples = [
        Sample(str(f), f, fruits.labels.index(f.parent.name) if f.parent.name in fruits.labels
               else UNKNOWN) for f in files
    ]  # fmt: skip
    samples = [sample for sample in samples if sample.label != UNKNOWN]
    found = measure_corruptions(fruits, samples, batch_size=16, max_pixels=10**6)
    assert found["images"] == 8 and found["clean"] == 1.0
    assert [row["name"] for row in found["rows"]] == list(CORRUPTIONS)
    assert all(len(row["accuracies"]) == SEVERITIES for row in found["rows"])
    assert 0 < found["mean"] <= 1
