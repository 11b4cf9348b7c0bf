"""Records are written first; a report, plot or card that fails costs nothing else."""

import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from support.drawing import draw_fruit
from support.runs import TINY_FLAGS, save_untrained, tiny_arguments
from support.warm import run_group

from hffruits.cli.main import main
from hffruits.core.errors import InputError, RunInterruptedError, added_to_errors, optional_output
from hffruits.data.arguments import DataArguments
from hffruits.demo.app import newest_model
from hffruits.evaluation.comparison import compare
from hffruits.evaluation.run import evaluate
from hffruits.exploration.run import explore
from hffruits.hub.push_model import push
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.few_shot import save_taught, teach
from hffruits.models.loading import load_model
from hffruits.training.hyperparameter_search import search
from hffruits.training.lr_finder import find_lr
from hffruits.training.run import train

RECORDS = {
    "config.json", "model.safetensors", "prototypes.safetensors", "metrics.json",
    "training_args.json", "log_history.json",
}  # fmt: skip
OPTIONAL = {"report.html", "evaluation.png", "README.md"}
WRITERS = {
    "report.html": "hffruits.evaluation.report.render_page",
    "evaluation.png": "hffruits.evaluation.report.draw_evaluation",
    "README.md": "hffruits.training.run.write_model_card",
}
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def breaks(monkeypatch) -> Callable[..., None]:
    """`breaks("module.function")` makes it raise."""

    def breaks(name: str, error: BaseException | None = None) -> None:
        def fail(*_, **__):
            raise error or ZeroDivisionError("by\nnothing")

        monkeypatch.setattr(name, fail)

    return breaks


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


# ---- a run ----


@pytest.mark.parametrize(
    ("lost", "error"), list(zip(WRITERS, [None, FULL, None], strict=True)), ids=WRITERS
)
def test_a_run_loses_only_the_output_that_fails(
    drawn_fruits, tmp_path, breaks, caplog, lost, error
):
    breaks(WRITERS[lost], error)
    folder = tmp_path / "run"
    metrics = train(*tiny_arguments(drawn_fruits, folder))
    assert files_of(folder) == RECORDS | OPTIONAL - {lost}
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    (warning,) = [line for line in warnings_of(caplog) if lost in line]
    reason = "OSError: No space left on device" if error else "ZeroDivisionError: by nothing"
    assert f"{folder / lost}: not made ({reason}). `hffruits " in warning and "\n" not in warning


def test_a_run_whose_optional_outputs_all_fail_has_finished(
    drawn_fruits, tmp_path, breaks, capsys, monkeypatch
):
    for writer in WRITERS.values():
        breaks(writer)
    folder = tmp_path / "run"
    command = ["train", str(drawn_fruits), "--output_dir", str(folder), "--max_steps=2"]
    assert main([*command, *TINY_FLAGS]) == 0
    assert files_of(folder) == RECORDS
    assert FruitClassifier.from_pretrained(folder).labels
    assert "Look" not in capsys.readouterr().out  # at a page that isn't there
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert main([*command, *TINY_FLAGS, "--resume_from_checkpoint=auto"]) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        ("heatmaps", "hffruits.inference.classifier.FruitClassifier.explain"),
        ("mistakes", "hffruits.evaluation.report.thumbnail_uri"),
        ("confused pairs", "hffruits.evaluation.report.thumbnail_uri"),
        ("doubtful photos", "hffruits.evaluation.report.Gallery.doubtful"),
        ("curves", "hffruits.evaluation.report.history_shown"),
    ],
)
def test_a_page_loses_only_the_part_that_fails(
    trained, tmp_path, breaks, caplog, part, broken, mistaken
):
    breaks(broken)
    evaluate(trained, mistaken, output_dir=tmp_path / "evaluated")
    assert files_of(tmp_path / "evaluated") == {"metrics.json", "report.html", "predictions.csv"}
    assert len([line for line in warnings_of(caplog) if f"report.html, {part}: not" in line]) == 1


@pytest.fixture
def mistaken(tmp_path) -> DataArguments:
    """Photos in the wrong folders: the model that knows them errs."""
    for right, wrong in {"Apple": "Banana", "Banana": "Apple"}.items():
        (tmp_path / "mistaken" / wrong).mkdir(parents=True)
        for seed in range(3):
            draw_fruit(right, seed=seed, size=64).save(
                tmp_path / "mistaken" / wrong / f"{seed}.png"
            )
    return DataArguments(data_dir=str(tmp_path / "mistaken"))


@pytest.mark.parametrize(
    ("broken", "options"),
    [
        ("hffruits.evaluation.run.measure", {}),
        ("hffruits.training.run.calibrate_artifact", {}),
        ("hffruits.training.run.recalibrate", {"batch_norm": "recalibrate"}),
    ],
)
def test_a_model_that_cannot_be_measured_is_saved_and_measured_later(
    drawn_fruits, tmp_path, breaks, monkeypatch, broken, options
):
    folder = tmp_path / "runs" / "a run"
    with monkeypatch.context() as patched:
        patched.setattr(broken, lambda *_, **__: 1 // 0)
        with pytest.raises(ZeroDivisionError) as caught:
            train(*tiny_arguments(drawn_fruits, folder, **options))
    (note,) = caught.value.__notes__
    assert f"saved in {folder}; `hffruits evaluate '{folder}'` evaluates it" in note
    assert {"model.safetensors", "config.json", "log_history.json"} <= files_of(folder)
    assert "metrics.json" not in files_of(folder)
    assert load_model(folder)[0].config.num_labels == 4
    assert newest_model(tmp_path / "runs") is None  # of those that have finished
    assert main(["evaluate", str(folder), "--output_dir", str(tmp_path / "figures")]) == 0
    measured = json.loads((tmp_path / "figures" / "metrics.json").read_text())
    assert measured["split"] == "test" and measured["images"] == 20


def test_photos_that_are_gone_when_a_model_is_measured_are_told_with_what_to_do(
    drawn_fruits, tmp_path, monkeypatch
):
    monkeypatch.setattr("hffruits.evaluation.run.samples_of_split", lambda rows: iter(()))
    with pytest.raises(InputError, match=r"none of its photos .*The model is saved .*evaluate"):
        train(*tiny_arguments(drawn_fruits, tmp_path / "run"))
    assert FruitClassifier.from_pretrained(tmp_path / "run").labels


def test_a_run_that_was_not_measured_is_when_it_is_resumed(drawn_fruits, tmp_path, monkeypatch):
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr("hffruits.evaluation.run.measure", lambda *_, **__: 1 // 0)
        train(*tiny_arguments(drawn_fruits, tmp_path / "run", **options))
    options |= {"resume_from_checkpoint": "auto"}
    metrics = train(*tiny_arguments(drawn_fruits, tmp_path / "run", **options))
    assert metrics["training"]["resumed"] and metrics["test"]["images"] == 20
    assert files_of(tmp_path / "run") == RECORDS | OPTIONAL


def test_nothing_of_an_earlier_end_stays_beside_new_figures(drawn_fruits, tmp_path, breaks):
    folder, options = tmp_path / "run", {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    train(*tiny_arguments(drawn_fruits, folder, **options))
    (folder / "metrics.json").unlink()  # not yet finished
    for writer in WRITERS.values():
        breaks(writer)
    options |= {"resume_from_checkpoint": str(folder / "checkpoint-2")}
    train(*tiny_arguments(drawn_fruits, folder, **options))
    assert files_of(folder) == RECORDS


def test_training_continues_when_its_output_is_no_longer_read(
    drawn_fruits, tmp_path, monkeypatch, caplog
):
    def closed(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("tqdm.std.tqdm.write", closed)
    options = {"disable_tqdm": False, "eval_strategy": "epoch"}
    train(*tiny_arguments(drawn_fruits, tmp_path / "run", **options))
    assert files_of(tmp_path / "run") == RECORDS | OPTIONAL
    assert any("the table of epochs: not made" in line for line in warnings_of(caplog))


@pytest.mark.slow
def test_other_processes_wait_for_no_output_that_failed(drawn_fruits, tmp_path):
    script = tmp_path / "broken.py"
    broken = "".join(
        f"import {name.rpartition('.')[0]}\n{name} = lambda *_, **__: 1 // 0\n"
        for name in WRITERS.values()
    )
    script.write_text(f"import sys\n{broken}from hffruits.cli.main import main\nsys.exit(main())\n")
    words = [script, "train", drawn_fruits, "--use_cpu=true", "--max_steps=2", *TINY_FLAGS]
    words += ["--output_dir", tmp_path / "run"]
    done = run_group(words, processes=2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "run") == RECORDS
    assert all(done.stderr.count(f"{name}: not made") == 1 for name in OPTIONAL)


# ---- other commands ----


@pytest.mark.parametrize("error", [None, FULL], ids=["bug", "full disk"])
def test_an_evaluation_keeps_its_figures_without_a_page(trained, tmp_path, breaks, capsys, error):
    (tmp_path / "report.html").write_text("of an earlier one")
    breaks("hffruits.evaluation.run.write_report", error)
    assert main(["evaluate", str(trained), "--output_dir", str(tmp_path)]) == 0
    assert files_of(tmp_path) == {"metrics.json", "predictions.csv"}
    assert "Open" not in capsys.readouterr().out


def test_an_evaluation_keeps_its_figures_where_corruptions_fail(trained, tmp_path, breaks):
    breaks("hffruits.evaluation.run.measure_corruptions", InputError("no photo"))
    with pytest.raises(InputError, match="no photo"):
        evaluate(trained, DataArguments(), output_dir=tmp_path, corruptions=True)
    assert {"metrics.json", "predictions.csv"} <= files_of(tmp_path)


def test_a_comparison_keeps_its_figures_without_a_page_or_photos(trained, tmp_path, breaks):
    breaks("hffruits.evaluation.comparison._gallery")
    compare(trained, trained, DataArguments(), output_dir=tmp_path / "a")
    assert files_of(tmp_path / "a") == {"compare.json", "compare.html"}
    breaks("hffruits.evaluation.comparison.render_page")
    compare(trained, trained, DataArguments(), output_dir=tmp_path / "b")
    assert files_of(tmp_path / "b") == {"compare.json"}


@pytest.mark.parametrize(
    ("broken", "page"),
    [
        ("hffruits.exploration.report.show_map", True),
        ("hffruits.exploration.report.show_histograms", True),
        ("hffruits.exploration.report.show_classes", False),
        ("hffruits.exploration.report.render_page", False),
    ],
)
def test_an_exploration_keeps_its_findings_and_lists(drawn_fruits, tmp_path, breaks, broken, page):
    breaks(broken)
    data = DataArguments(data_dir=str(drawn_fruits))
    record = explore(data, output_dir=tmp_path, max_images=12).record
    lists = {f"{name}.txt" for name in ("small_photos",)}
    assert {"explore.json"} | lists <= files_of(tmp_path)
    assert json.loads((tmp_path / "explore.json").read_text()) == record
    assert ("explore.html" in files_of(tmp_path)) == page


def test_a_range_test_and_a_search_keep_their_results(drawn_fruits, tmp_path, breaks, caplog):
    breaks("hffruits.training.lr_finder.draw_lr_range")
    data, model, args = tiny_arguments(drawn_fruits, tmp_path / "x", optim="sgd")
    result = find_lr(data, model, args, file=tmp_path / "lr.png", steps=10, lowest=1e-4)
    assert f"{result.suggestion:.1e}" in warnings_of(caplog)[-1]
    breaks("hffruits.training.hyperparameter_search.draw_bars")
    tries = {"eval_strategy": "epoch", "max_steps": 1}
    arguments = tiny_arguments(drawn_fruits, tmp_path / "search", **tries)
    assert search(*arguments, trials=3).trials == 3
    assert "importance.png: not made" in warnings_of(caplog)[-1]


def test_a_taught_model_is_saved_without_its_card(tmp_path, breaks):
    fruits = FruitClassifier.from_pretrained(save_untrained(tmp_path / "a", ["Kiwi", "Pear"]))
    breaks("hffruits.inference.few_shot.write_model_card")
    photos = [draw_fruit("Apple", seed=seed) for seed in range(2)]
    save_taught(teach(fruits, "Apple", photos), tmp_path / "taught")
    assert FruitClassifier.from_pretrained(tmp_path / "taught").labels == ["Kiwi", "Pear", "Apple"]


def test_a_page_that_cannot_be_made_public_stays_here(local_hub, untrained, tmp_path, caplog):
    folder = save_untrained(tmp_path / "model", ["Kiwi", "Pear"])
    (folder / "report.html").write_bytes(b"/root\xff")
    push(folder, "user/fruits")
    published = local_hub.repos["model", "user/fruits"].files
    assert "model.safetensors" in published and "report.html" not in published
    assert any("report.html: not made" in line for line in warnings_of(caplog))


# ---- the boundary itself ----


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), RunInterruptedError(15, None)]
)
def test_what_ends_a_run_passes(error, tmp_path):
    with pytest.raises(type(error)), optional_output(tmp_path / "a", remedy="None."):
        raise error


def test_half_a_file_is_removed_and_the_traceback_kept_for_debugging(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "hffruits")
    with optional_output(tmp_path / "page.html", remedy="Do it again."):
        (tmp_path / "page.html").write_text("half")
        raise MemoryError
    assert not files_of(tmp_path)
    warning, detail = caplog.records
    assert warning.getMessage().endswith("page.html: not made (MemoryError). Do it again.")
    assert detail.levelno == logging.DEBUG and detail.exc_info


def test_an_error_says_what_is_saved():
    with pytest.raises(InputError, match=r"^bad\. It is saved\.$"), added_to_errors("It is saved."):
        raise InputError("bad.")
    with pytest.raises(OSError, match="worse") as caught, added_to_errors("It is saved."):
        raise OSError("worse")
    assert caught.value.__notes__ == ["It is saved."]
