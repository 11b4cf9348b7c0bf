"""Hyper-parameter search through `Trainer.hyperparameter_search` with Optuna.

Every trial is kept in a database on disk: a stopped search goes on where it was.
"""

import copy
import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hffruits.core.errors import InputError, optional_output
from hffruits.core.plots import draw_bars
from hffruits.data.arguments import DataArguments
from hffruits.models.layers import has_layer_groups
from hffruits.training.argument_checks import Arguments, check_arguments, takes_layer_decay
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.setup import (
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
        from sqlalchemy import URL
    except ImportError as error:
        raise InputError("search: needs optuna. Run pip install 'hffruits[search]'.") from error
    if trials < 1:
        raise InputError(f"trials={trials}: give 1 or more.")
    args = copy.copy(training_args)
    folder = Path(args.output_dir or f"runs/search-{data_args.name}")
    args.output_dir = str(folder)
    args.save_strategy, args.load_best_model_at_end = SaveStrategy.NO, False
    args.early_stopping_patience = 0  # the pruner stops what is hopeless
    args.lr_scheduler_type = args.schedule  # a plain name: the Trainer keeps a field's type
    if args.time_budget:
        raise InputError("time_budget: plans one run. Leave it out of a search.")
    if args.scale_learning_rate != "none":
        raise InputError("scale_learning_rate: a search finds the rate itself. Leave it out.")
    check_arguments(data_args, model_args, args)
    if args.eval_strategy == IntervalStrategy.NO:
        raise InputError("eval_strategy=no: a search compares validations. Set it to epoch.")
    folder.mkdir(parents=True, exist_ok=True)
    place = URL.create("sqlite", database=str((folder / "search.db").resolve()))
    storage = place.render_as_string()
    study = optuna.create_study(
        study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True
    )
    check_same_study(study, folder, (data_args, model_args, training_args))
    datasets = load_datasets(data_args, None, args.seed)
    labels = datasets["train"].features["label"].names
    prepared = prepare_model(model_args, args, labels)
    args = resolve_arguments(args, prepared)

    def new_model() -> Any:
        set_seed(args.seed)
        return prepare_model(model_args, args, labels).model

    done = len(finished_trials(study))
    missing = trials - done
    if missing > 0:
        options = {"model_init": new_model, "stop_if_diverged": False}  # it is a bad trial
        trainer = make_trainer(prepared, datasets, data_args, args, **options)
        trainer.hyperparameter_search(
            search_space(args, model_args, prepared),
            lambda metrics: metrics["eval_accuracy"],
            n_trials=missing,
            direction="maximize",
            backend="optuna",
            study_name=STUDY,
            storage=storage,
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=args.seed + done),  # no draw twice
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        )
    done = len(finished_trials(study))
    if done >= 3:
        picture = folder / "importance.png"
        with optional_output(
            picture, remedy="search.db has the trials; the same command draws it."
        ):
            importance = optuna.importance.get_param_importances(study)
            draw_bars(importance, title="What the accuracy depends on", file=picture)
    return SearchResult(done, study.best_value, study.best_params)


def search_space(
    args: FruitTrainingArguments, model_args: ModelArguments, prepared: PreparedModel
) -> Callable[["optuna.Trial"], dict[str, Any]]:
    """What a trial may choose, around a model's usual learning rate, and `train` will take."""
    rate = args.learning_rate
    by_layer = has_layer_groups(prepared.model) and takes_layer_decay(
        model_args, prepared.plan, args
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


def check_same_study(study: "optuna.Study", folder: Path, arguments: Arguments) -> None:
    """Write down what a study is of; raise `InputError` where it was begun for something else."""
    data, model, training = (dataclasses.asdict(group) for group in arguments)
    asked = data | model | {name: training[name] for name in _OF_A_TRIAL}
    for name, value in asked.items():
        kept = study.user_attrs.get(name, value)
        if kept != value:
            raise InputError(
                f"{folder}: its search has {name}={kept}, not {value}. Give another output_dir."
            )
        study.set_user_attr(name, value)


# Training options that all trials of a study share
_OF_A_TRIAL = (
    "num_train_epochs", "max_steps", "per_device_train_batch_size", "seed", "batch_norm",
    "mixup_alpha", "cutmix_alpha", "learning_rate",
)  # fmt: skip


def finished_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Trials that count: those stopped early by the pruner too, but none that were broken off."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def format_command(best: dict[str, Any], argv: list[str]) -> str:
    """`train` with the words of the search's own command line and the best trial."""
    flags = [word for name, value in best.items() for word in (f"--{name}", f"{value}")]
    return shlex.join(["train", *argv, *flags])
