"""Hyper-parameter search through `Trainer.hyperparameter_search` with Optuna.

Every trial is stored in a database on disk, so a stopped search is resumed.
"""

import copy
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import set_seed
from transformers.trainer_utils import SaveStrategy

from hffruits.core.claims import claim
from hffruits.core.errors import InputError, optional_output
from hffruits.core.plots import draw_bars
from hffruits.data.arguments import DataArguments
from hffruits.models.layers import has_layer_groups
from hffruits.training.argument_checks import (
    check_arguments,
    check_same_search,
    check_search,
    takes_layer_decay,
)
from hffruits.training.arguments import Arguments, FruitTrainingArguments, ModelArguments
from hffruits.training.run_state import TrainingRun
from hffruits.training.setup import (
    load_datasets,
    make_trainer,
    prepare_model,
    resolve_arguments,
)

if TYPE_CHECKING:
    import optuna

STUDY = "hffruits"


@dataclass(frozen=True)
class SearchResult:
    """The best trial of a study, over all its sessions."""

    trials: int  # finished
    best_accuracy: float  # on validation, in [0, 1]
    best: dict[str, Any]  # flag -> value


def search(
    data_args: DataArguments,
    model_args: ModelArguments,
    training_args: FruitTrainingArguments,
    *,
    trials: int = 20,
) -> SearchResult:
    """Run trials until `trials` have finished; maximise the last epoch's validation accuracy.

    Writes `search.db` and, from three trials on, `importance.png` into the output folder. Raises
    `InputError` as training would, and where Optuna is missing.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise InputError("search: needs optuna. Run pip install 'hffruits[search]'.") from error
    check_search(training_args, trials=trials)
    args = trial_arguments(training_args, folder=f"runs/search-{data_args.name}")
    check_arguments(data_args, model_args, args)
    with claim(Path(args.output_dir).expanduser()):
        return _search(Arguments(data_args, model_args, training_args), args, trials)


def _search(requested: Arguments, args: FruitTrainingArguments, trials: int) -> SearchResult:
    import optuna
    from sqlalchemy import URL

    folder = Path(args.output_dir).expanduser()
    place = URL.create("sqlite", database=str((folder / "search.db").resolve()))
    stored = {"study_name": STUDY, "storage": place.render_as_string(), "load_if_exists": True}
    study = optuna.create_study(direction="maximize", **stored)
    for name, value in check_same_search(study.user_attrs, requested, folder=folder).items():
        study.set_user_attr(name, value)
    run = TrainingRun(requested.data, requested.model, args)
    run.datasets = load_datasets(requested.data, None, args.seed)
    run.prepared = prepare_model(requested.model, args, run.labels)
    run.args = resolve_arguments(args, run.prepared)
    done = len(finished_trials(study))
    if done < trials:
        run_trials(run, trials - done, seed=run.args.seed + done, **stored)  # no draw twice
    if len(finished_trials(study)) >= 3:
        draw_importance(study, folder / "importance.png")
    return SearchResult(len(finished_trials(study)), study.best_value, study.best_params)


def trial_arguments(
    training_args: FruitTrainingArguments, *, folder: str
) -> FruitTrainingArguments:
    """A copy for trials, of which no model is saved; `folder` if no output_dir was given."""
    args = copy.copy(training_args)
    args.output_dir = args.output_dir or folder
    args.save_strategy, args.load_best_model_at_end = SaveStrategy.NO, False
    args.early_stopping_patience = 0  # the pruner stops what is hopeless
    args.lr_scheduler_type = args.schedule  # a plain name: the Trainer keeps a field's type
    return args


def run_trials(run: TrainingRun, count: int, *, seed: int, **study: Any) -> None:
    """Train `count` models more; `study` says where Optuna stores them."""
    import optuna

    def new_model() -> Any:
        set_seed(run.args.seed)
        return prepare_model(run.model_args, run.args, run.labels).model

    trainer = make_trainer(run, model_init=new_model, stop_if_diverged=False)  # it is a bad trial
    trainer.hyperparameter_search(
        search_space(run),
        lambda metrics: metrics["eval_accuracy"],
        n_trials=count,
        direction="maximize",
        backend="optuna",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        **study,
    )


def draw_importance(study: "optuna.Study", file: Path) -> None:
    """Which settings the accuracy depends on, as a bar chart; optional."""
    import optuna

    with optional_output(file, remedy="search.db has the trials; the same command draws it."):
        importance = optuna.importance.get_param_importances(study)
        draw_bars(importance, title="What the accuracy depends on", file=file)


def search_space(run: TrainingRun) -> Callable[["optuna.Trial"], dict[str, Any]]:
    """What a trial may choose, around a model's usual learning rate, and `train` will take."""
    args, prepared, rate = run.args, run.prepared, run.args.learning_rate
    by_layer = has_layer_groups(prepared.model) and takes_layer_decay(
        run.model_args, prepared.plan, args
    )
    # the Trainer keeps the type that a field has
    args.weight_decay, args.layer_decay = float(args.weight_decay), float(args.layer_decay)
    args.label_smoothing_factor = float(args.label_smoothing_factor)

    def space(trial: "optuna.Trial") -> dict[str, Any]:
        choice = {
            "learning_rate": trial.suggest_float("learning_rate", rate / 10, rate * 5, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
            "label_smoothing_factor": trial.suggest_float("label_smoothing_factor", 0.0, 0.2),
        }
        if not args.lr_scheduler_kwargs:  # they belong to one schedule
            choice["lr_scheduler_type"] = trial.suggest_categorical(
                "lr_scheduler_type", ["cosine", "linear", "one_cycle", "exponential"]
            )
        if by_layer:
            choice["layer_decay"] = trial.suggest_float("layer_decay", 0.5, 1.0)
        return choice

    return space


def finished_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Trials that count: those stopped early by the pruner too, but none that were interrupted."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def format_command(best: dict[str, Any], argv: list[str]) -> str:
    """`train` with the flags of the search's own command line and the best trial."""
    flags = [word for name, value in best.items() for word in (f"--{name}", f"{value}")]
    return shlex.join(["train", *argv, *flags])
