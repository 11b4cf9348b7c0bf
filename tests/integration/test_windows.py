"""On Windows: nothing that is open or mapped is replaced, renamed or removed; no `fork`."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.runs import tiny_arguments

import hffruits
from hffruits.core.errors import InputError
from hffruits.core.files import write_text
from hffruits.inference.batch_predict import label_into_table
from hffruits.inference.classifier import FruitClassifier
from hffruits.training.arguments import ModelArguments
from hffruits.training.run import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def test_the_simulation_refuses_what_is_open_and_what_is_mapped(windows, tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "one")
    write_text(file, "two")
    with file.open(), pytest.raises(PermissionError):
        write_text(file, "three")
    with file.open(), pytest.raises(PermissionError):
        tmp_path.rename(tmp_path.with_name("other"))
    assert file.read_text() == "two"
    assert len(windows) == 2


def test_a_run_saves_over_no_file_that_it_maps_and_removes_none_that_is_open(
    windows, drawn_fruits, tmp_path
):
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    options |= {"num_train_epochs": 3, "save_total_limit": 1, "ema_decay": 0.9}
    train(*tiny_arguments(drawn_fruits, tmp_path / "run", **options))
    again = options | {"num_train_epochs": 1, "overwrite_output_dir": True}
    train(*tiny_arguments(drawn_fruits, tmp_path / "run", **again))
    assert windows == []


def test_a_run_on_cached_features_and_one_that_starts_from_its_own_folder(
    windows, drawn_fruits, tmp_path, monkeypatch
):
    monkeypatch.setenv("HFFRUITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("hffruits.training.feature_cache.compute._cpu_workers", lambda: 0)
    net = {"pretrained": False, "image_size": 32, "freeze": "stages:2", "feature_cache_views": 1}
    model = ModelArguments("test_efficientnet", **net)
    train(*tiny_arguments(drawn_fruits, tmp_path / "run", model=model))
    own = ModelArguments(str(tmp_path / "run"), image_size=32)
    options = {"overwrite_output_dir": True, "num_train_epochs": 1}
    train(*tiny_arguments(drawn_fruits, tmp_path / "run", model=own, **options))
    assert windows == []


def test_a_loaded_model_holds_no_file(windows, untrained):
    fruits = FruitClassifier.from_pretrained(untrained)
    mapped = Path("/proc/self/maps").read_text()
    assert fruits.labels and str(untrained) not in mapped


def test_batch_prediction_closes_its_journal_before_it_goes(
    windows, untrained, drawn_fruits, tmp_path
):
    for suffix in (".csv", ".jsonl", ".parquet"):
        label_into_table(untrained, [drawn_fruits / "test"], tmp_path / f"predictions{suffix}")
    assert windows == []
    assert len(list(tmp_path.glob("predictions*"))) == 3  # but filelock's own, which go there


def test_reports_lists_and_copies_are_written_again_over_themselves(
    windows, drawn_fruits, untrained, tmp_path
):
    for _ in range(2):
        hffruits.explore(drawn_fruits, output_dir=tmp_path / "explored", max_images=0)
        hffruits.split(drawn_fruits, output_dir=tmp_path / "lists", repair="list")
    hffruits.split(drawn_fruits, output_dir=tmp_path / "copied", repair="copy")
    data = hffruits.load_fruits(
        drawn_fruits, image_cache="resized", split_lists=str(tmp_path / "lists")
    )
    assert len(data["train"]) and windows == []


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_an_export_that_was_checked_is_moved_to_its_place(windows, untrained, tmp_path, form):
    pytest.importorskip({"onnx": "onnxruntime"}.get(form, form))
    exported = hffruits.export(untrained, format=form, output_dir=tmp_path / "exported")
    assert exported.classifier.labels and windows == []


def test_a_taught_model_is_written(windows, untrained, drawn_fruits, tmp_path):
    photos = sorted((drawn_fruits / "test").rglob("*.png"))[:3]
    taught = hffruits.teach(untrained, "Dragon fruit", photos, output_dir=tmp_path / "taught")
    assert taught.labels[-1] == "Dragon fruit" and windows == []


def test_a_table_that_a_spreadsheet_has_open_is_named(windows, untrained, make_folder, tmp_path):
    data, output = make_folder({"Kiwi": 2, "Lime": 2}), tmp_path / "evaluated"
    for _ in range(2):  # into the same folder
        hffruits.evaluate(untrained, data, output_dir=output)
    assert windows == []
    said = r"predictions.csv: can't be replaced .* Close it if"
    with (output / "predictions.csv").open(), pytest.raises(InputError, match=said):
        hffruits.evaluate(untrained, data, output_dir=output)


def test_a_record_that_another_program_has_open_is_named(
    windows, untrained, make_folder, tmp_path, monkeypatch
):
    data, output = make_folder({"Kiwi": 2, "Lime": 2}), tmp_path / "compared"
    hffruits.compare(untrained, untrained, data, output_dir=output)
    said = r"compare.json: can't be replaced .* Close it if"
    with (output / "compare.json").open(), pytest.raises(InputError, match=said):
        hffruits.compare(untrained, untrained, data, output_dir=output)
    with ExitStack() as opened:  # while the corruptions are measured
        monkeypatch.setattr(
            "hffruits.evaluation.run.measure_corruptions",
            lambda *_, **__: opened.enter_context((tmp_path / "out" / "metrics.json").open()),
        )
        with pytest.raises(InputError, match=r"metrics.json: can't be replaced .* Close it if"):
            hffruits.evaluate(untrained, data, output_dir=tmp_path / "out", corruptions=True)
