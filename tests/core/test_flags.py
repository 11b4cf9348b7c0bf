"""Wrong flags and those of other tools: one line names each, with the flag that is meant."""

import logging
import re

import pytest

import hffruits
from hffruits import InputError, load_fruits
from hffruits.cli import parser as parsers
from hffruits.cli.main import COMMANDS, _PlainFormatter, main
from hffruits.core.flags import spell_as_flags
from hffruits.training.parser import arguments_from_keywords, parse_train_arguments

OF_OTHERS = {
    "train_dir": "data_dir", "train_csv": "data_dir",
    "train_folder": "data_dir", "data_path": "data_dir",
    "epochs": "num_train_epochs", "batch_size": "per_device_train_batch_size",
    "batch": "per_device_train_batch_size", "lr": "learning_rate", "lr0": "learning_rate",
    "evaluation_strategy": "eval_strategy", "model": "model_name_or_path",
    "img_size": "image_size", "imgsz": "image_size", "patience": "early_stopping_patience",
    "workers": "dataloader_num_workers", "num_workers": "dataloader_num_workers",
    "optimizer": "optim", "sched": "lr_scheduler_type", "wd": "weight_decay",
    "val_split": "validation_fraction", "warmup_ratio": "warmup_steps", "no_cuda": "use_cpu",
    "resume": "resume_from_checkpoint", "random_state": "seed",
}  # fmt: skip


def complaint(capsys, call, *arguments) -> str:
    """The one line that is left on stderr."""
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_flag_of_another_tool_leads_to_ours_on_the_command_line_and_in_python(name, capsys):
    for flag in (f"--{name}", f"--{name.replace('_', '-')}"):
        line = complaint(capsys, parse_train_arguments, [flag, "3"])
        assert f"unknown: {flag}" in line and f"(did you mean --{OF_OTHERS[name]}?)" in line
    with pytest.raises(InputError, match=rf"{name}=3 \(did you mean {OF_OTHERS[name]}\?\)"):
        arguments_from_keywords("fruits", **{name: 3})


def test_all_unknown_flags_are_named_at_once(capsys):
    argv = ["fruits", "--epochs", "3", "--lr=-0.1", "--seed", "1", "--zebra", "-1"]
    line = complaint(capsys, parse_train_arguments, argv)
    assert line == (
        "train.py: error: unknown: --epochs 3 (did you mean --num_train_epochs?), --lr=-0.1 (did "
        "you mean --learning_rate?), --zebra -1. See `train.py --help`."
    )
    with pytest.raises(InputError, match=r"^unknown: epochs=3 \(.*\), lr=0.1 \(did you mean lear"):
        arguments_from_keywords("fruits", epochs=3, lr=0.1)
    with pytest.raises(InputError, match=r"^epochs: unknown\. Known|^epochs: unknown, root: unk"):
        load_fruits("fruits", epochs=3, root="x")


def test_all_unknown_names_of_a_file_are_named_at_once(capsys, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 3\nlr: 0.1\nseed: 1\n")
    line = complaint(capsys, parse_train_arguments, ["--config", str(file)])
    assert "unknown epochs (did you mean --num_train_epochs?), lr (did you mean" in line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["predict", "runs/a", "b.jpg", "--device", "cuda"],
         "--device cuda (leave it out: a GPU is used where there is one)"),
        (["predict", "--model", "runs/a", "--source", "b.jpg"],
         "unknown: --model (give model without a flag), --source (give images without a flag)"),
        (["predict", "runs/a", "b.jpg", "--topk", "3"], "--topk"),
        (["evaluate", "runs/a", "fruits", "--batch", "8"], "(did you mean --batch_size?)"),
        (["find-lr", "fruits", "--step", "8", "--epochs", "3"],
         "--step 8 (did you mean --steps?), --epochs 3 (did you mean --num_train_epochs?)"),
        (["push", "runs/a", "user/a", "--token", "x", "--licence", "mit"], "--license"),
        (["predit", "runs/a"], "predit: unknown (did you mean predict?). See `hffruits --help`."),
        (["train", "fruits", "--warmup_epochs", "5"],
         "--warmup_epochs 5 (did you mean --warmup_steps, 0.1 for one epoch of ten?)"),
        (["train", "fruits", "--test_pct", "20"],
         "(did you mean --test_fraction, 0.2 for 20 percent?)"),
        (["train", "fruits", "--dtype", "float16"],
         "(did you mean --bf16, or fp16 for float16?)"),
        (["train", "fruits", "--half"], "--half (did you mean --fp16?)"),
        (["predict", "runs/a", "b.jpg", "--dtype", "bf16"], "(did you mean --precision?)"),
        (["predict"], "required: model, images. See `hffruits predict --help`."),
    ],
)  # fmt: skip
def test_every_command_says_what_is_meant_in_one_line(argv, message, capsys):
    assert message in complaint(capsys, main, argv)


def test_a_flag_that_says_the_opposite_is_not_suggested(capsys):
    line = complaint(capsys, parse_train_arguments, ["fruits", "--trainable", "head"])
    assert "--freeze" not in line


@pytest.mark.parametrize("name", ["validation_dir", "val_dir", "valid_dir", "test_file"])
def test_a_folder_for_each_split_is_to_lie_in_the_data(name, capsys):
    for flag in (f"--{name}", f"--{name.replace('_', '-')}"):
        line = complaint(capsys, parse_train_arguments, ["fruits", flag, "photos"])
        assert f"{flag} photos (put val and test beside train, below --data_dir)" in line
    with pytest.raises(InputError, match=r"\(put val and test beside train, below data_dir\)"):
        arguments_from_keywords("fruits", **{name: "photos"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hub_tokn", "s3cret"], "--hub_tokn *** (did you mean --hub_token?)"),
        (["--hub_tokn=s3cret"], "--hub_tokn=*** (did you mean --hub_token?)"),
        (["--logn", "hf_s3cret12345"], "--logn hf_***"),
    ],
)
def test_a_token_behind_a_mistyped_flag_is_not_printed(words, said, capsys):
    line = complaint(capsys, parse_train_arguments, ["fruits", *words])
    assert said in line and "s3cret" not in line


def test_a_word_too_many_is_no_flag(capsys):
    line = complaint(capsys, parse_train_arguments, ["fruits", "data2"])
    assert line.endswith("unknown: data2. See `train.py --help`.")


def test_a_short_flag_with_its_value_is_known_without_it(capsys):
    line = complaint(capsys, parse_train_arguments, ["fruits", "-b16"])
    assert "-b16 (did you mean --per_device_train_batch_size?)" in line


def test_a_flag_that_the_data_answers_is_to_be_left_out(capsys):
    line = complaint(capsys, parse_train_arguments, ["fruits", "--num_classes", "4"])
    assert "--num_classes 4 (leave it out: the data says which classes there are)" in line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["demo", "--sha"], "unknown: --sha (did you mean --share?)"),
        (["predict", "m", "a.jpg", "--rev", "x"], "unknown: --rev x (did you mean --revision?)"),
        (["--vers"], "unknown: --vers (did you mean --version?)"),
        (["demo", ""], "argument model: empty. Give a value, or leave it out."),
        (["predict", "m", ""], "argument images: empty."),
        (["samples", ""], "argument DIR: empty."),
        (["explore", "fruits", "--output_dir", ""], "argument --output_dir: empty."),
        (["demo", "a", "--model", "b"], "a and --model b: give one of them."),
        (["predict", "~nobody-here/m", "a.jpg"], "argument model: ~nobody-here/m: no such user"),
        (["train", "~nobody-here/x"], "~nobody-here/x: no such user"),
    ],
)
def test_no_command_guesses_what_was_meant_by_half_a_word(argv, message, capsys):
    assert message in complaint(capsys, main, argv)


@pytest.mark.parametrize("argv", [[], ["--"]])
def test_no_command_prints_which_there_are(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2 and "commands:\n  train" in capsys.readouterr().out


def test_an_empty_text_is_a_value_where_it_is_the_default():
    args = parsers.evaluate_parser(None).parse_known_args(["m", "--tta", ""])[0]
    assert args.tta == ""


def test_help_of_a_command_is_as_before(capsys):
    with pytest.raises(SystemExit) as stop:
        parsers.predict_parser("Help.").parse_args(["--help"])
    assert stop.value.code == 0 and "--top_k" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("message", "spelled"),
    [
        ("freeze=some: unknown. Known: none, half.", "--freeze=some: unknown. Known: none, half."),
        ("few steps: more (num_train_epochs=11)", "few steps: more (--num_train_epochs=11)"),
        ("lora_rank and freeze: LoRA freezes the backbone itself. Leave freeze out.",
         "--lora_rank and --freeze: LoRA freezes the backbone itself. Leave --freeze out."),
        ("streaming: split_lists, exclude, group_by need photos, which freeze.",
         "--streaming: --split_lists, --exclude, --group_by need photos, which freeze."),
        ("Set freeze to half.", "Set --freeze to half."),
        ("output_dir=/my/output_dir/seed=3: not empty. Choose another output_dir.",
         "--output_dir=/my/output_dir/seed=3: not empty. Choose another --output_dir."),
        ("batch_norm=sync: only on GPUs. Use train or freeze.",
         "--batch_norm=sync: only on GPUs. Use train or freeze."),
        ("seed: photos that nobody wrote of", "--seed: photos that nobody wrote of"),
        ("`hffruits train --seed 3`, 'seed=3' and --seed=3", "`hffruits train --seed 3`, 'seed=3' "
         "and --seed=3"),
        ("ours=False or bf16=True: leave it out.", "ours=False or --bf16: leave it out."),
        ("Apple: 1 photo; splitting needs 2.", "Apple: 1 photo; splitting needs 2."),
    ],
)  # fmt: skip
def test_a_message_of_a_function_names_the_flags_on_the_command_line(message, spelled):
    assert spell_as_flags(message, parsers.flag_names("train")) == spelled


def test_a_boolean_is_spelled_as_the_flag_that_sets_it():
    message = "4 photos are published (report=False: none; private=True: hidden)"
    spelled = "4 photos are published (--no_report: none; --private: hidden)"
    assert spell_as_flags(message, parsers.flag_names("push")) == spelled
    assert spell_as_flags("share=True: a link", parsers.flag_names("demo")) == "--share: a link"


@pytest.mark.parametrize(
    ("message", "spelled"),
    [
        ("photos: no such folder. Check the path or data_dir.",
         "photos: no such folder. Check the path or --data_dir."),
        ("learning_rate=0.1: not empty. Choose another output_dir.",
         "learning_rate=0.1: not empty. Choose another --output_dir."),
        ("seed=x: not a number.", "--seed=x: not a number."),
        ("my output_dir: no such folder (did you mean my output_dirs?)",
         "my output_dir: no such folder (did you mean my output_dirs?)"),
        ("output_dir=runs/a (seed=3): not empty.", "--output_dir=runs/a (seed=3): not empty."),
    ],
)  # fmt: skip
def test_what_the_user_named_like_a_flag_is_none(message, spelled):
    given = ["photos", "--output_dir", "learning_rate=0.1", "--seed", "x", "my output_dir",
             "--config=runs/a (seed=3)"]  # fmt: skip
    names = parsers.flag_names("preview")
    assert spell_as_flags(message, names, given=given) == spelled


def test_a_missing_folder_that_is_called_like_a_flag_keeps_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["preview", "photos"]) == 2
    assert capsys.readouterr().err.startswith("hffruits preview: error: photos: no such folder")


def test_remedies_are_flags_on_the_command_line_and_keywords_in_python(tmp_path, capsys):
    (tmp_path / "Apple").mkdir()
    words = {"freeze": "head_only", "layer_decay": 0.5}
    assert main(["train", str(tmp_path), *(f"--{name}={value}" for name, value in words.items())])
    said = capsys.readouterr().err
    assert said.startswith("hffruits train: error: --freeze=head_only and --layer_decay: only one")
    with pytest.raises(InputError, match=r"^freeze=head_only and layer_decay: only one"):
        hffruits.train(str(tmp_path), **words)


def test_a_log_line_names_flags_too():
    record = logging.makeLogRecord({"name": "hffruits.data", "msg": "with another output_dir"})
    assert _PlainFormatter("train").format(record) == "with another --output_dir"
    record.name = "transformers"
    assert _PlainFormatter("train").format(record) == "with another output_dir"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flags_of_every_command_are_known(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    listed = set(re.findall(r"^  --(\w+)", capsys.readouterr().out, re.MULTILINE))
    assert listed - {"help_all"} <= parsers.flag_names(command) | {"help"}
