"""What needs no model is answered before torch and transformers are imported."""

import os
import subprocess
import sys

import pytest
from support.runs import paint

LIGHT = {
    "help": (["train", "--help"], 0, "--num_train_epochs"),
    "all": (["train", "--help_all"], 0, "--adam_beta1"),
    "flag": (["train", "--epochs", "3"], 2, "did you mean --num_train_epochs?"),
    "value": (["train", "--learning_rate", "fast"], 2, "invalid float value"),
    "recipe": (["train", "--recipe", "fats"], 2, "did you mean fast?"),
    "folder": (["train", "fruitz"], 2, "fruitz: no such folder (did you mean fruits?)"),
    "nothing": ([], 2, "commands:"),
    "command": (["trian"], 2, "did you mean train?"),
    "search": (["search", "--trails", "3"], 2, "did you mean --trials?"),
    "find-lr": (["find-lr", "--help"], 0, "--highest"),
    "preview": (["preview", "fruitz"], 2, "did you mean fruits?"),
    "evaluate": (["evaluate", "--help"], 0, "--unknown_dir"),
    "explore": (["explore", "fruitz"], 2, "did you mean fruits?"),
    "explore-flag": (["explore", "--max_image", "3"], 2, "did you mean --max_images?"),
    "predict": (["predict", "runs/fruit", "a.jpg"], 2, "did you mean runs/fruits?"),
    "predict-flag": (["predict", "runs/fruits", "a.jpg", "--topk", "3"], 2, "--top_k"),
    "demo": (["demo", "--shared"], 2, "did you mean --share?"),
    "plot-lr": (["plot-lr", "cosin"], 2, "did you mean cosine?"),
    "plot-lr-rate": (["plot-lr", "step", "--learning_rate", "nan"], 2, "--learning_rate=nan: give"),
    "plot-lr-steps": (["plot-lr", "--steps", "99999999999"], 2, "give 1 to 1,000,000."),
    "plot-lr-help": (["plot-lr", "--help"], 0, "--warmup_steps"),
}
HEAVY = {"torch", "transformers", "datasets", "timm", "numpy", "PIL", "gradio"}
CODE = f"""
import sys
from hffruits.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)
sys.exit(code)
"""


@pytest.mark.parametrize("name", LIGHT)
def test_help_and_mistakes_are_answered_without_anything_heavy(name, tmp_path):
    argv, code, said = LIGHT[name]
    (tmp_path / "fruits").mkdir()
    (tmp_path / "runs" / "fruits").mkdir(parents=True)
    (tmp_path / "runs" / "fruits" / "config.json").write_text("{}")
    command = [sys.executable, "-c", CODE, *argv]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == code, done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
    assert code == 0 or not argv or len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("more", [[], ["--output", "a.csv"]])
def test_a_photo_that_is_not_there_is_said_before_torch_is_imported(more, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    code = CODE.replace(str(HEAVY), str({"torch", "transformers"}))
    command = [sys.executable, "-c", code, "predict", str(tmp_path), "no.jpg", *more]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert (
        done.stderr == "hffruits predict: error: no.jpg: no such file or folder. Check the path.\n"
    )


def test_schedules_of_ours_are_drawn_without_torch(tmp_path):
    code = (
        "import sys; from hffruits.cli.main import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'transformers'} & set(sys.modules); sys.exit(code)"
    )
    words = ["plot-lr", "one_cycle", "step", "--output", str(tmp_path / "lr.png")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code, *words], check=True, env=env)
    assert (tmp_path / "lr.png").is_file()


def test_prediction_imports_nothing_that_training_data_and_plots_need(untrained, tmp_path):
    paint(tmp_path / "fruit.png", seed=1)
    unneeded = {
        *("transformers.trainer", "transformers.training_args", "peft", "datasets", "pandas"),
        *("sklearn", "matplotlib", "optuna", "gradio", "hffruits.training.arguments"),
    }
    code = f"""
import sys
from hffruits import FruitClassifier
imported = {unneeded} & set(sys.modules)
assert not imported, imported
from hffruits.cli.main import main
code = main(["predict", {str(untrained)!r}, {str(tmp_path / "fruit.png")!r}])
imported = {unneeded} & set(sys.modules)
assert not imported, imported
sys.exit(code)
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and "%" in done.stdout, done.stderr


def loads(*, terminal: bool, tmp_path) -> str:
    """What stderr gets while a module that is named like a heavy one is imported."""
    (tmp_path / "slow.py").write_text("import sys; sys.stderr.write('|')")
    code = "from hffruits.cli.loading import load; load('slow')"
    paths = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    env = os.environ | {"PYTHONPATH": paths}
    ours, theirs = pytest.importorskip("pty").openpty() if terminal else os.pipe()
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=env, check=True)
    os.close(theirs)
    text = os.read(ours, 10_000).decode()
    os.close(ours)
    return text


def test_a_terminal_says_what_is_loading_until_it_is(tmp_path):
    before, after = loads(terminal=True, tmp_path=tmp_path).split("|")
    assert before == "Loading PyTorch and transformers ..."
    assert after == f"\r{' ' * len(before)}\r"


def test_a_log_has_no_word_of_it(tmp_path):
    assert loads(terminal=False, tmp_path=tmp_path) == "|"
