"""Hyper-parameter search through `Trainer.hyperparameter_search` with Optuna.

Every trial is kept in a database on disk: a stopped search goes on where it was.
"""

import copy
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hffruits.checks import check_arguments
from hffruits.config import DataArguments, FruitTrainingArguments, ModelArguments
from hffruits.errors import InputError
from hffruits.layers import has_layer_groups
from hffruits.optim import default_learning_rate
from hffruits.plots import draw_bars
from hffruits.preparation import (
    PreparedModel,
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
        import optuna
    except ImportError as error:
        raise InputError("search: needs optuna. Run pip install 'hffruits[search]'.") from error
    args = copy.copy(training_args)
    folder = Path(args.output_dir or "runs/search")
    args.output_dir = str(folder)
    args.save_strategy, args.load_best_model_at_end = SaveStrategy.NO, False
    args.lr_scheduler_type = args.schedule  # a plain name: the Trainer keeps a field's type
    check_arguments(data_args, model_args, args)
    if args.eval_strategy == IntervalStrategy.NO:
        raise InputError("eval_strategy=no: a search compares validations. Set it to epoch.")
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{(folder / 'search.db').resolve()}"
    study = optuna.create_study(
        study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True
    )
    datasets = load_datasets(data_args, None, args.seed)
    labels = datasets["train"].features["label"].names
    prepared = prepare_model(model_args, args, labels)
    args = resolve_arguments(args, prepared)
    args.learning_rate = training_args.learning_rate or default_learning_rate(prepared.model)

    def new_model() -> Any:
        set_seed(args.seed)
        return prepare_model(model_args, args, labels).model

    missing = trials - len(finished_trials(study))
    if missing > 0:
        trainer = make_trainer(prepared, datasets, data_args, args, model_init=new_model)
        trainer.hyperparameter_search(
            search_space(args.learning_rate, prepared, model_args),
            lambda metrics: metrics["eval_accuracy"],
            n_trials=missing,
            direction="maximize",
            backend="optuna",
            study_name=STUDY,
            storage=storage,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        )
    done = finished_trials(study)
    if len(done) >= 3:
        importance = optuna.importance.get_param_importances(study)
        draw_bars(importance, title="What the accuracy depends on", file=folder / "importance.png")
    return SearchResult(len(done), study.best_value, study.best_params)


def search_space(
    learning_rate: float, prepared: PreparedModel, model_args: ModelArguments
) -> Callable[["optuna.Trial"], dict[str, Any]]:
    """What a trial may choose, around a model's usual learning rate."""

    def space(trial: "optuna.Trial") -> dict[str, Any]:
        choice = {
            "learning_rate": trial.suggest_float(
                "learning_rate", learning_rate / 10, learning_rate * 5, log=True
            ),
            "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
            "label_smoothing_factor": trial.suggest_float("label_smoothing_factor", 0.0, 0.2),
            "lr_scheduler_type": trial.suggest_categorical(
                "lr_scheduler_type", ["cosine", "linear", "one_cycle", "exponential"]
            ),
        }
        if has_layer_groups(prepared.model) and not model_args.lora_rank:
            choice["layer_decay"] = trial.suggest_float("layer_decay", 0.5, 1.0)
        return choice

    return space


def finished_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Trials that count: those stopped early by the pruner too, but none that were broken off."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def format_command(best: dict[str, Any], argv: list[str]) -> str:
    """`hffruits train` with the words of the search's own command line and the best trial."""
    flags = [word for name, value in best.items() for word in (f"--{name}", f"{value}")]
    return shlex.join(["hffruits", "train", *argv, *flags])
