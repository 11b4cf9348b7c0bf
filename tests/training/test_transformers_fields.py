"""Flags as they are read from transformers' source are those that importing it gives."""

from pathlib import Path

import pytest

from hffruits.data.parser import DataParser
from hffruits.training import parser as parsing
from hffruits.training import transformers_fields
from hffruits.training.arguments import FruitTrainingArguments
from hffruits.training.lr_schedules import SCHEDULE_NAMES
from hffruits.training.schedule_functions import SCHEDULES

# their choices are computed when transformers is imported
COMPUTED = {"log_level", "log_level_replica"}


def actions_of(training: type) -> dict[str, tuple]:
    parser = parsing.make_parser(training, parsing.TRAIN)
    return {
        " ".join(one.option_strings) or one.dest: (one.default, one.choices, one.nargs, one.const)
        for one in parser._actions
    }


def test_flags_defaults_and_choices_are_the_same_as_those_of_the_imported_class():
    read, real = actions_of(parsing._training_fields()), actions_of(FruitTrainingArguments)
    assert list(read) == list(real) and len(real) > 150
    for flags, (default, choices, *rest) in real.items():
        if flags.split()[0].removeprefix("--") in COMPUTED:
            assert read[flags] == (default, None, *rest)
        else:
            assert read[flags] == (default, choices and list(choices), *rest), flags


def test_names_of_schedules_are_those_of_the_imported_enumeration():
    assert (*SCHEDULES, *transformers_fields.read_schedule_names()) == SCHEDULE_NAMES


@pytest.mark.parametrize(
    "argv",
    [
        ["--learning_rate", "fast"],
        ["--eval_strategy"],
        ["--debug", "x", "--ddp_backend", "tin"],
        ["--train_sampling_strategy", "odd"],
        ["--logging_strategy", "sometimes", "--bf16", "perhaps"],
    ],
)
def test_what_importing_would_refuse_is_refused_before_in_the_same_words(argv, capsys):
    said = []
    for training in (parsing._training_fields(), FruitTrainingArguments):
        with pytest.raises(SystemExit):
            parsing._parse(parsing.make_parser(training, parsing.TRAIN), argv, parsing.TRAIN)
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]


@pytest.fixture
def other_version(tmp_path, monkeypatch) -> Path:
    """The folder that is read in place of transformers'."""
    package = tmp_path / "transformers"
    package.mkdir()
    (package / "__init__.py").touch()
    spec = transformers_fields.find_spec("transformers")
    monkeypatch.setattr(spec, "origin", str(package / "__init__.py"))
    monkeypatch.setattr(transformers_fields, "find_spec", lambda name: spec)
    return package


@pytest.mark.parametrize(
    "source",
    [
        "class TrainingArguments(Base):\n    x: int = 1\n",
        "class Other: pass\n",
        "class (\n",
        None,
        "class TrainingArguments:\n    x: int = 1\n    x.y: int = 1\n",
        "class TrainingArguments:\n    x: 'A' | None = None\n",
        "class TrainingArguments:\n    x: kind() = None\n",
        "class TrainingArguments:\n    x: int | float = 1\n",  # which the parser doesn't take
        "class TrainingArguments:\n    x: int.other = 1\n",
    ],
)
def test_a_source_of_another_shape_is_left_to_the_import(source, other_version):
    if source:
        (other_version / "training_args.py").write_text(source)
    assert transformers_fields.read_training_arguments() is None


def test_schedules_of_another_shape_are_left_to_the_import(other_version):
    source = "class SchedulerType(ExplicitEnum):\n    LINEAR.own = 'linear'\n"
    (other_version / "trainer_utils.py").write_text(source)
    assert transformers_fields.read_schedule_names() is None


@pytest.mark.parametrize(
    "annotation",
    ["torch.dtype", "torch.dtype | None", "int | torch.dtype", "'torch.dtype | None'",
     "Optional['Mode']", "Mapping[str, Mode] | None", "a.b[c.d].e"],
)  # fmt: skip
def test_a_type_that_is_not_known_takes_any_text(annotation, other_version):
    source = f"class TrainingArguments:\n    newest: {annotation} = None\n"
    (other_version / "training_args.py").write_text(source)
    read = DataParser((transformers_fields.read_training_arguments(),))
    assert read.parse_known_args(["--newest", "float16"])[0].newest.text == "float16"


def test_a_field_that_a_later_version_adds_is_a_flag_and_listed_last(tmp_path, monkeypatch):
    real = Path(transformers_fields.find_spec("transformers").origin).parent
    for name in ("training_args", "trainer_utils", "debug_utils"):
        text = (real / f"{name}.py").read_text("utf-8")
        new = '    newest: Mode | str = field(default="a", metadata={"help": "As new."})\n'
        text = text.replace("    local_rank: int = field(", f"{new}    local_rank: int = field(")
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    spec = transformers_fields.find_spec("transformers")
    monkeypatch.setattr(spec, "origin", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(transformers_fields, "find_spec", lambda name: spec)
    parser = parsing.make_parser(parsing._training_fields.__wrapped__(), parsing.TRAIN)
    parsing.arrange_help(parser, parsing.TRAIN, everything=True)
    text = parser.format_help()
    assert "others of transformers:\n  --newest" in text and "As new [a]" in text
