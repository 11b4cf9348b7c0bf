"""Hyper-parameter search through `Trainer.hyperparameter_search` with Optuna.

Every trial is stored in a database on disk, so a stopped search is resumed.
"""

import copy
import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, TrainerCallback, set_seed
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
from hffruits.training.callbacks.progress import EpochTableCallback
from hffruits.training.linear_probe import probe_head
from hffruits.training.run_state import TrainingRun
from hffruits.training.setup import (
    load_datasets,
    make_trainer,
    prepare_model,
    resolve_arguments,
)

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)
STUDY = "hffruits"


@dataclass(frozen=True)
class SearchResult:
    """The best trial of a study, over all its sessions."""

    trials: int  # finished
    best_accuracy: float  # on validation, in [0, 1]
    best: dict[str, Any]  # flag -> value
    epochs: float | None = None  # of each trial; None where max_steps says how long it is


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
    with claim(Path(args.output_dir).expanduser()), _quiet_optuna():
        return _search(Arguments(data_args, model_args, training_args), args, trials)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Optuna has a line for each trial with all digits, and others; we have one."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


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
    run.prepared = prepare_model(requested.model, args, run.labels, augment=requested.data.augment)
    run.args = resolve_arguments(args, run.prepared)
    done = len(finished_trials(study))
    if done < trials:
        run_trials(run, trials, done=done, **stored)
    if len(finished_trials(study)) >= 3:
        draw_importance(study, folder / "importance.png")
    epochs = None if args.max_steps > 0 else args.num_train_epochs
    return SearchResult(len(finished_trials(study)), study.best_value, study.best_params, epochs)


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


class _TrialCallback(TrainerCallback):
    """Reports each trial in a line, in place of a table of its epochs."""

    def __init__(self, *, done: int, trials: int):
        self.number, self.trials = done, trials
        self.running: str | None = None  # its settings
        self.accuracy: float | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.finish(stopped=True)
        self.number, self.running = self.number + 1, format_settings(state.trial_params or {})

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.accuracy = (metrics or {}).get("eval_accuracy")

    def on_train_end(self, args, state, control, **kwargs):
        self.finish()

    def finish(self, *, stopped: bool = False) -> None:
        """Report the trial that runs, if any; the pruner has `stopped` it, or it has ended."""
        if self.running is not None and self.accuracy is not None:
            logger.info(
                "trial %d of %d: accuracy %.1f%%%s (%s)",
                *(self.number, self.trials, 100 * self.accuracy),
                *(", stopped early" if stopped else "", self.running),
            )
        self.running = self.accuracy = None


def run_trials(run: TrainingRun, trials: int, *, done: int, **study: Any) -> None:
    """Train models until there are `trials`, of which some are `done`.

    `study` says where Optuna stores them.
    """
    import optuna

    def new_model() -> Any:
        set_seed(run.args.seed)
        return copy.deepcopy(run.prepared.model)

    line = _TrialCallback(done=done, trials=trials)
    # one that diverges is a bad trial
    trainer = make_trainer(run, callbacks=[line], model_init=new_model, stop_if_diverged=False)
    run.trainer = trainer
    probe_head(run)  # of the model that each trial begins with a copy of
    for each_epoch in (EpochTableCallback, PrinterCallback):
        trainer.remove_callback(each_epoch)
    trainer.hyperparameter_search(
        search_space(run),
        lambda metrics: metrics["eval_accuracy"],
        n_trials=trials - done,
        direction="maximize",
        backend="optuna",
        sampler=optuna.samplers.TPESampler(seed=run.args.seed + done),  # no draw twice
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        **study,
    )
    line.finish(stopped=True)


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


def format_command(result: SearchResult, argv: list[str]) -> str:
    """`train` with the flags of the search's own command line, the epochs and the best trial."""
    texts = dict(_rounded(result.best))
    if result.epochs is not None:  # as they were asked for: the schedule depends on them
        texts = {"num_train_epochs": str(result.epochs).removesuffix(".0")} | texts
    flags = [word for name, text in texts.items() for word in (f"--{name}", text)]
    return shlex.join(["train", *argv, *flags])


def format_settings(settings: dict[str, Any]) -> str:
    """`learning_rate=0.00043, ...`"""
    return ", ".join(f"{name}={text}" for name, text in _rounded(settings))


def _rounded(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Numbers with three digits: more say nothing of a draw."""
    for name, value in settings.items():
        yield name, f"{value:.3g}" if isinstance(value, float) else str(value)
