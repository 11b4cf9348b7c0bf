"""The commands that plot: augmentation preview, schedules, LR range test, search."""

import logging
import math
import re
import sqlite3

import numpy as np
import pytest
from PIL import Image
from support.runs import tiny_arguments

from hffruits.cli.main import main
from hffruits.core.errors import InputError
from hffruits.core.plots import draw_grid
from hffruits.training.arguments import ModelArguments
from hffruits.training.augmentation_preview import choose_rows, preview
from hffruits.training.hyperparameter_search import SearchResult, format_command, search
from hffruits.training.lr_finder import find_lr, smooth, suggest

pytestmark = pytest.mark.usefixtures("without_report")


def colours(file) -> int:
    with Image.open(file) as image:
        return len(image.convert("RGB").getcolors(2**24))


def test_the_preview_shows_each_photo_as_validation_sees_it_and_augmented(
    drawn_fruits, tmp_path, monkeypatch
):
    drawn = {}

    def catch(rows, columns, file):
        drawn.update(rows=rows, columns=columns)
        draw_grid(rows, columns, file)

    monkeypatch.setattr("hffruits.training.augmentation_preview.draw_grid", catch)
    arguments = tiny_arguments(drawn_fruits, tmp_path)
    arguments[0].augment = "medium"
    file = tmp_path / "preview.png"
    preview(*arguments, file=file, photos=3, views=4)
    assert drawn["columns"] == ["validation", *["medium"] * 4]
    assert len(drawn["rows"]) == 3
    for _, (plain, *views) in drawn["rows"]:
        assert plain.min() >= 0 and plain.max() <= 1
        assert len({view.tobytes() for view in views}) == 4
        assert not any(np.array_equal(plain, view) for view in views)
    assert colours(file) > 500


def test_preview_and_plot_lr_run_from_the_command_line(drawn_fruits, tmp_path, capsys):
    grid, lines = tmp_path / "grid.png", tmp_path / "lr.png"
    options = ["--augment", "strong", "--cutmix_alpha", "1", "--photos", "2", "--views", "2"]
    assert main(["preview", str(drawn_fruits), *options, "--output", str(grid)]) == 0
    assert main(["plot-lr", "cosine", "step", "--steps", "50", "--output", str(lines)]) == 0
    assert colours(grid) > 500 and colours(lines) > 50
    assert capsys.readouterr().out.splitlines() == [
        f"Saved     {grid}", f"Saved     {lines}",
    ]  # fmt: skip


def test_wrong_input_to_the_drawing_commands_is_reported_in_one_line(tmp_path, capsys):
    for argv, message in [
        (["plot-lr", "wavy"], "wavy: unknown schedule"),
        (["plot-lr", "step", "--lr_scheduler_kwargs", '{"speed": 1}'], "not for step"),
        (["plot-lr", "step", "--output", str(tmp_path / "lr.xyz")], "Name a .png file"),
        (["preview", str(tmp_path / "nowhere")], "no such folder"),
        (["preview", "--augment", "wild"], "augment=wild: unknown. Known: none, light"),
        (["preview", "--photos", "0"], "photos=0"),
        (["plot-lr", "step", "--lr_scheduler_kwargs", "5"], "not for step"),
        (["plot-lr", "step", "--steps", "0"], "steps=0"),
        (["find-lr", "--steps", "1"], "steps=1: give"),
        (["find-lr", "--lowest", "0"], "lowest=0"),
        (["search", "--trials", "0"], "trials=0"),
    ]:
        assert main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_the_range_test_raises_the_rate_and_suggests_one_on_the_slope(drawn_fruits, tmp_path):
    arguments = tiny_arguments(drawn_fruits, tmp_path / "run")
    file = tmp_path / "find.png"
    result = find_lr(*arguments, file=file, lowest=1e-5, highest=1.0, steps=20)
    assert result.rates[0] == pytest.approx(1e-5) and 5 < len(result.rates) <= 20
    factors = np.diff(np.log(result.rates))
    assert factors == pytest.approx([math.log(1e5) / 19] * len(factors))
    assert result.suggestion in result.rates and colours(file) > 50
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_range_test_that_stops_early_says_where_and_prints_no_empty_table(
    drawn_fruits, tmp_path, caplog, capsys, monkeypatch
):
    monkeypatch.setattr("hffruits.training.lr_finder.DIVERGED_FACTOR", 0.0)  # at the first step
    caplog.set_level("INFO", logger="hffruits")
    arguments = tiny_arguments(drawn_fruits, tmp_path / "run", disable_tqdm=False)
    with pytest.raises(InputError, match="from the start"):
        find_lr(*arguments, file=tmp_path / "find.png", lowest=1e-5, steps=20)
    assert "stopped at 1.0e-05, after 1 of 20 steps: the loss diverged" in caplog.text
    assert "val loss" not in "".join(capsys.readouterr())


def test_the_suggestion_is_where_the_loss_falls_most():
    rates = np.geomspace(1e-6, 1, 100)
    losses = 3 - 2 / (1 + np.exp(-4 * (np.log10(rates) + 3))) + np.maximum(0, rates - 0.05) * 50
    assert 1e-3 <= suggest(rates.tolist(), losses.tolist()) <= 6e-3
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0] * 3)


@pytest.mark.slow
def test_a_stopped_search_is_resumed_and_has_a_line_for_each_trial(
    drawn_fruits, tmp_path, capsys, caplog
):
    folder = tmp_path / "search"
    options = {"eval_strategy": "epoch", "num_train_epochs": 1}

    def trials(count: int):
        return search(*tiny_arguments(drawn_fruits, folder, **options), trials=count)

    with caplog.at_level(logging.INFO):
        assert trials(2).trials == 2
        result = trials(4)
    lines = [line for line in caplog.messages if line.startswith("trial ")]
    assert [line.split(":")[0] for line in lines] == [
        "trial 1 of 2", "trial 2 of 2", "trial 3 of 4", "trial 4 of 4",
    ]  # fmt: skip
    assert all("%" in line and "learning_rate=" in line for line in lines)
    assert not any(record.name.startswith("optuna") for record in caplog.records)
    output = capsys.readouterr()
    assert "val accuracy" not in output.out + output.err and "{'" not in output.out
    assert result.trials == 4
    with sqlite3.connect(folder / "search.db") as database:
        assert database.execute("select count(*) from trials").fetchone() == (4,)
        best = database.execute("select max(value) from trial_values").fetchone()[0]
    assert result.best_accuracy == best
    assert colours(folder / "importance.png") > 20
    command = format_command(result, [str(drawn_fruits)])
    assert command.startswith(f"train {drawn_fruits} --num_train_epochs 1 --")
    numbers = re.findall(r" ([\d.e-]+)(?= |$)", command)
    assert len(numbers) > 3 and all(f"{float(number):.3g}" == number for number in numbers)
    assert all(f"--{name}" in command for name in ("learning_rate", "layer_decay"))


def test_the_command_of_a_search_has_the_epochs_of_its_trials_and_rounds_what_was_drawn():
    best = {"learning_rate": 0.00123456, "lr_scheduler_type": "cosine"}
    for epochs, said in ((2.125, "2.125"), (1234, "1234"), (3.0, "3"), (None, None)):
        command = format_command(SearchResult(4, 0.9, best, epochs), ["fruits"])
        asked = f" --num_train_epochs {said}" if said else ""
        assert command == (
            f"train fruits{asked} --learning_rate 0.00123 --lr_scheduler_type cosine"
        )


def test_the_suggestion_ignores_what_comes_after_a_loss_that_is_nan():
    rates = np.geomspace(1e-6, 1, 50)
    losses = [3 - step / 20 for step in range(30)] + [math.nan] + [0.0] * 19
    assert suggest(rates.tolist(), losses) < rates[30]
    with pytest.raises(InputError, match="NaN or infinite losses from the start"):
        suggest(rates.tolist(), [math.nan] * 50)


def test_white_is_white_in_the_preview_whatever_the_normalisation(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "hffruits.training.augmentation_preview.draw_grid", lambda rows, *_: drawn.update(rows=rows)
    )
    for split in ("train", "val"):
        for label in ("a", "b"):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for name in range(3):
                Image.new("RGB", (50 + name, 50), "white").save(folder / f"{name}.png")
    resnet = ModelArguments("resnet10t", pretrained=False, freeze="none")
    arguments = tiny_arguments(tmp_path / "data", tmp_path / "run", model=resnet)
    preview(*arguments, file=tmp_path / "x.png", photos=1, views=1)
    ((_, images),) = drawn["rows"]
    assert all(np.allclose(image, 1.0, atol=1e-3) for image in images)


def test_a_search_of_other_data_is_not_resumed(drawn_fruits, tmp_path):
    options = {"eval_strategy": "epoch", "num_train_epochs": 1}
    search(*tiny_arguments(drawn_fruits, tmp_path, **options), trials=1)
    with pytest.raises(InputError, match="its search has batch_norm=None, not freeze"):
        search(*tiny_arguments(drawn_fruits, tmp_path, batch_norm="freeze", **options), trials=1)


def test_a_search_needs_validation(drawn_fruits, tmp_path):
    with pytest.raises(InputError, match="eval_strategy"):
        search(*tiny_arguments(drawn_fruits, tmp_path, eval_strategy="no"), trials=1)
    with pytest.raises(InputError, match="time_budget: plans one run"):
        search(*tiny_arguments(drawn_fruits, tmp_path, time_budget="5m"), trials=1)


def test_the_range_test_takes_no_time_budget(drawn_fruits, tmp_path):
    arguments = tiny_arguments(drawn_fruits, tmp_path, time_budget="5m")
    with pytest.raises(InputError, match="time_budget: plans a whole run"):
        find_lr(*arguments, file=tmp_path / "lr.png")


def test_the_preview_has_a_row_for_each_class_before_any_has_a_second():
    labels = [0] * 50 + [1] * 5 + [2, 3]
    rows = choose_rows(labels, 6, seed=0)
    assert [labels[row] for row in rows] == [0, 0, 1, 1, 2, 3]
    assert len(set(rows)) == 6
    assert rows == choose_rows(labels, 6, seed=0) and rows != choose_rows(labels, 6, seed=1)
    assert sorted(choose_rows(labels, 100, seed=0)) == [*range(len(labels))]


def test_a_preview_of_fewer_rows_than_classes_is_spread_over_them():
    labels = [number // 3 for number in range(150)]
    assert [labels[row] for row in choose_rows(labels, 5, seed=0)] == [0, 12, 24, 37, 49]


def test_the_preview_says_which_classes_it_leaves_out(drawn_fruits, tmp_path, caplog):
    caplog.set_level("INFO", "hffruits")
    preview(*tiny_arguments(drawn_fruits, tmp_path), file=tmp_path / "a.png", photos=2, views=1)
    assert "2 of 4 classes: photos=4 has a row for each" in caplog.text
