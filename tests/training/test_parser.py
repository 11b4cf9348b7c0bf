"""Flags and files of `hffruits train` become dataclasses; mistakes end in one line and code 2."""

import json
import re
from dataclasses import fields

import pytest

from hffruits.data.arguments import DataArguments
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.flag_help import NOT_FOR_PHOTOS, USUAL
from hffruits.training.parser import parse_train_arguments


def fails(capsys, argv: list[str]) -> str:
    """The one line that a wrong command line leaves on stderr."""
    with pytest.raises(SystemExit) as stop:
        parse_train_arguments(argv)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_defaults_are_for_fine_tuning():
    data, model, training = parse_train_arguments([])
    assert data.data_dir is None and data.augment == "light"
    assert model.model_name_or_path == "efficientnet_lite0"
    assert training.lr_scheduler_type == "cosine" and training.weight_decay == 0.05
    assert training.learning_rate is None and training.output_dir is None


def test_every_trainer_flag_works_with_underscores_and_hyphens():
    argv = ["fruits", "--weight_decay", "0.1", "--max-grad-norm", "2", "--optim", "sgd", "--bf16"]
    data, _, training = parse_train_arguments([*argv, "--lr_scheduler_type=linear"])
    assert data.data_dir == "fruits"
    assert training.weight_decay == 0.1 and training.max_grad_norm == 2.0
    assert training.optim == "sgd" and training.bf16 is True
    assert training.lr_scheduler_type == "linear"


def test_bf16_can_be_turned_off():
    assert parse_train_arguments(["--bf16", "false"])[2].bf16 is False


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        ([], None),
        (["--resume_from_checkpoint"], "last"),
        (["--resume_from_checkpoint", "True"], "last"),
        (["--resume_from_checkpoint", "false"], None),
        (["--resume_from_checkpoint", "runs/x/checkpoint-5"], "runs/x/checkpoint-5"),
    ],
)
def test_resuming_is_asked_for_in_the_usual_ways(argv, meant):
    assert parse_train_arguments(argv)[2].resume_from_checkpoint == meant
    assert FruitTrainingArguments(resume_from_checkpoint=True).resume_from_checkpoint == "last"


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_file_sets_values_and_flags_override_them(tmp_path, suffix):
    values = {
        "learning_rate": "3e-4",
        "num_train_epochs": 7,
        "augment": "none",
        "pretrained": False,
    }
    file = tmp_path / f"run{suffix}"
    lines = "learning_rate: 3e-4\nnum_train_epochs: 7\naugment: none\npretrained: false\n"
    file.write_text(json.dumps(values) if suffix == ".json" else lines)
    data, model, training = parse_train_arguments(["--config", str(file), "--num_train_epochs=2"])
    assert training.learning_rate == 3e-4 and training.num_train_epochs == 2
    assert data.augment == "none" and model.pretrained is False


def test_a_file_may_say_no_true_and_lists_as_yaml_does(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "eval_strategy: no\nsave_strategy: no\nload_best_model_at_end: no\n"
        "resume_from_checkpoint: true\ninclude_for_metrics: [inputs]\n"
        "lr_scheduler_kwargs: {num_cycles: 2}\ndata_dir: elsewhere\n"
    )
    data, _, training = parse_train_arguments(["fruits", "--config", str(file)])
    assert training.eval_strategy == "no" and training.load_best_model_at_end is False
    assert training.resume_from_checkpoint == "last"
    assert training.include_for_metrics == ["inputs"]
    assert training.lr_scheduler_kwargs == {"num_cycles": 2}
    assert data.data_dir == "fruits"


def test_a_file_may_name_a_recipe_which_its_own_values_and_flags_override(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("recipe: fast\nweight_decay: 0.5\nrare_classes: null\n")
    data, model, training = parse_train_arguments(["--config", str(file)])
    _, fast, of_fast = parse_train_arguments(["--recipe", "fast"])
    assert model == fast and training.num_train_epochs == of_fast.num_train_epochs
    assert training.weight_decay == 0.5 and data.rare_classes == "error"
    _, model, _ = parse_train_arguments(["--config", str(file), "--recipe", "balanced"])
    assert model == parse_train_arguments(["--recipe", "balanced"])[1] != fast


def test_mistakes_are_reported_with_the_remedy(capsys, tmp_path):
    assert "did you mean --learning_rate?" in fails(capsys, ["--learning_rat", "1"])
    assert "invalid float" in fails(capsys, ["--learning_rate", "fast"])
    assert "give one of them" in fails(capsys, ["a", "--data_dir", "b"])
    line = fails(capsys, ["--feature_cache_views", "2.5"])  # no twin with hyphens
    assert line == "train.py: error: argument --feature_cache_views: invalid int value: '2.5'"
    file = tmp_path / "run.yaml"
    assert "No such file" in fails(capsys, ["--config", str(file)])
    file.write_text("weigth_decay: 1")
    assert "did you mean --weight_decay?" in fails(capsys, ["--config", str(file)])
    file.write_text("data: fruits")
    assert "unknown data (did you mean --data_dir?)" in fails(capsys, ["--config", str(file)])
    file.write_text("num_train_epochs: [1]")
    assert "takes one value" in fails(capsys, ["--config", str(file)])
    file.write_text("per_device_train_batch_size: 8.5")
    assert "invalid int" in fails(capsys, ["--config", str(file)])
    file.write_text("just words")
    assert "name: value" in fails(capsys, ["--config", str(file)])
    file.write_text("a: [")
    assert "while parsing" in fails(capsys, ["--config", str(file)])
    file.write_bytes("output_dir: Früchte".encode("cp1252"))
    assert "not UTF-8. Save it as that." in fails(capsys, ["--config", str(file)])
    file.write_text("recipe: slow")
    assert "--recipe slow: unknown. Known: balanced" in fails(capsys, ["--config", str(file)])
    assert "--recipe fsat: unknown (did you mean fast?)" in fails(capsys, ["--recipe", "fsat"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("recipe: {a: 1}", "run.yaml: recipe takes no `name: value` pairs. Write it as text."),
        ("learning_rate: {a: 1}", "learning_rate takes no `name: value` pairs"),
        ("freeze: !!binary aGFsZg==", "freeze takes no binary data"),
        ("data_dir: !!set {a}", "data_dir takes no set"),
        ("label_names: [[a], b]", "label_names takes no lists of lists"),
        ("[" * 3000, "maximum recursion depth"),
    ],
)
def test_a_value_of_a_kind_that_no_flag_takes_names_the_file_and_the_flag(
    content, message, tmp_path, capsys
):
    file = tmp_path / "run.yaml"
    file.write_text(content)
    assert message in fails(capsys, ["--config", str(file)])


def test_a_folder_named_like_a_date_is_text_and_schedules_take_pairs(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "output_dir: 2026-11-30\nlr_scheduler_type: exponential\nlr_scheduler_kwargs: {gamma: 0.5}"
    )
    training = parse_train_arguments(["--config", str(file)])[2]
    assert training.output_dir == "2026-11-30"
    assert training.lr_scheduler_kwargs == {"gamma": 0.5}


def test_a_file_below_the_home_folder_is_found_behind_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("seed: 7")
    assert parse_train_arguments(["--config=~/run.yaml"])[2].seed == 7


@pytest.mark.parametrize(
    "argv", [["--recipe", ""], ["--recipe="], ["--config", " "], ["--output_dir="], ["--exclude="]]
)
def test_what_an_unset_variable_of_the_shell_leaves_empty_is_refused(argv, capsys):
    name = argv[0].partition("=")[0]
    assert f"argument {name}: empty. Give a value, or leave it out." in fails(capsys, argv)


def help_of(capsys, *flags: str, columns: int, monkeypatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as stop:
        parse_train_arguments([*flags])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_has_the_fifteen_usual_flags_in_a_line_each_with_their_defaults(capsys, monkeypatch):
    text = help_of(capsys, "--help", columns=80, monkeypatch=monkeypatch)
    flags = re.findall(r"^ +--(\w+) {2,}\S", text, re.MULTILINE)
    assert flags == [*USUAL, "help_all"] and len(USUAL) == 15
    assert text.count("[16]") == text.count("[efficientnet_lite0]") == 1
    assert "--help_all" in text.splitlines()[-1]
    listed = text[text.index("usual flags:") :].split("\n\n")[0].splitlines()[1:]
    assert len(listed) == 15


def test_help_all_has_every_flag_once_in_sections_and_none_of_the_trainer(capsys, monkeypatch):
    text = help_of(capsys, "--help_all", columns=100, monkeypatch=monkeypatch)
    groups = (DataArguments, ModelArguments, FruitTrainingArguments)
    names = [field.name for group in groups for field in fields(group)]
    assert len(names) > 150
    for name in names:
        assert len(re.findall(rf"^  --{name}\b", text, re.MULTILINE)) == 1, name
    for section in ("data:", "model:", "run:", "Hub:", "hardware and precision:"):
        assert f"\n{section}\n" in text
    usual = text[: text.index(NOT_FOR_PHOTOS)]
    assert "Trainer" not in usual and "Whether or not" not in text
    assert "others of transformers" not in text  # all are in our words


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("flag", ["--help", "--help_all"])
def test_help_is_broken_at_words_to_the_width_of_the_terminal(columns, flag, capsys, monkeypatch):
    texts = {}
    for width in (columns, 1000):
        texts[width] = help_of(capsys, flag, columns=width, monkeypatch=monkeypatch)
    assert max(map(len, texts[columns].splitlines())) <= min(columns - 2, 100)
    assert texts[columns].split() == texts[1000].split()
