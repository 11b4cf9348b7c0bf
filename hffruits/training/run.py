"""One training run from top to bottom: prepare, plan, fit, finish.

Every process of a distributed run calls `train`; only the main one writes.
"""

import copy
import json
import logging
import math
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, enable_full_determinism, set_seed
from transformers.trainer_utils import TrainOutput
from transformers.utils.logging import disable_progress_bar

from hffruits.core.claims import InUseError, claim
from hffruits.core.counts import counted
from hffruits.core.dataloader_workers import translate_worker_errors
from hffruits.core.distributed import on_main_process, translate_peer_errors
from hffruits.core.durations import parse_duration
from hffruits.core.errors import InputError, added_to_errors, optional_output
from hffruits.core.files import translate_open_errors, write_json
from hffruits.core.progress import progress_bar
from hffruits.data.arguments import DataArguments
from hffruits.data.transforms import EvalTransform
from hffruits.evaluation.run import (
    EvaluatedArtifact,
    calibrate_artifact,
    evaluate_artifact,
    show_artifact,
)
from hffruits.hub import push_model
from hffruits.hub.commit import check_push
from hffruits.models.artifact import (
    CARD,
    DIVERGED,
    EXAMPLES,
    LOG,
    METRICS,
    PLOT,
    REPORT,
    TRAINING_ARGS,
)
from hffruits.models.batch_norm import recalibrate
from hffruits.models.examples import choose_examples, remove_examples, save_examples
from hffruits.models.lora import merge_lora
from hffruits.models.model_card import write_model_card
from hffruits.models.saving import save_model
from hffruits.models.train_digests import write_train_digests
from hffruits.training.argument_checks import check_arguments, check_same_photos, check_same_run
from hffruits.training.arguments import (
    Arguments,
    FruitTrainingArguments,
    ModelArguments,
    with_precision,
)
from hffruits.training.budget_planner import (
    as_planned,
    fit_into_time,
    has_sped_up,
    measure_again,
    seconds_left,
)
from hffruits.training.callbacks.signals import StopOnSignalCallback, ends_at_once
from hffruits.training.callbacks.time_budget import TimeBudgetCallback
from hffruits.training.checkpointing import translate_disk_errors
from hffruits.training.cost_estimate import Plan, describe_plan
from hffruits.training.datasets import as_tensors
from hffruits.training.feature_cache.cache import (
    choose_precision,
    choose_views,
    use_cached_features,
)
from hffruits.training.feature_cache.disk import NoRoomError
from hffruits.training.linear_probe import probe_head
from hffruits.training.optimizers import format_groups
from hffruits.training.run_dir import RunDir, check_shared, choose_run_dir, clear_run
from hffruits.training.run_records import absolute, argument_record, describe_start, metrics_record
from hffruits.training.run_state import TrainingRun
from hffruits.training.setup import (
    load_datasets,
    make_trainer,
    prepare_model,
    resolve_arguments,
)

logger = logging.getLogger(__name__)
FEWEST_STEPS = 32  # 3 classes of 5 photos gained by that many, 6 of 8 by no more
RECALIBRATION_IMAGES = 8192  # more give the same statistics


@translate_peer_errors()
def train(
    data_args: DataArguments,
    model_args: ModelArguments,
    training_args: FruitTrainingArguments,
    *,
    command: str | None = None,
) -> dict[str, Any]:
    """Train one model and write its artifact folder. Returns what `metrics.json` holds.

    `command` is recorded for others who want the same, if a command has these arguments.

    Raises `InputError` for anything wrong with the arguments or the data, before training starts
    and before anything of an earlier run is removed; `RunInterruptedError` once a run that was
    asked to end is saved, and `PeersLostError` where another process of the run can't be reached.
    """
    requested = Arguments(data_args, model_args, training_args)
    with ExitStack() as claims:  # the folder's, before anything long
        run = prepare(requested, command=command, claims=claims)
        if run.run_dir.is_finished:
            return finished_metrics(run)
        load(run)
        plan(run)
        cache_features(run)
        if run.plan:
            plan_again(run)
        output = fit(run)
        return finish(run, output)


# ---- prepare: arguments, folder, photos ----


def prepare(requested: Arguments, *, command: str | None, claims: ExitStack) -> TrainingRun:
    """Check the arguments and choose the folder; a resumed run takes over what it began with."""
    started = time.monotonic()
    check_arguments(*requested)
    run_dir = on_main_process(lambda: choose_run(requested, claims))
    check_shared(run_dir.folder)
    data_args, model_args, training_args = requested
    recorded = run_dir.recorded_arguments
    if recorded:
        model_args, training_args = as_planned(recorded, model_args, training_args)
        check_same_run(recorded, (data_args, model_args, training_args))
    args = copy.copy(training_args)  # the caller's stay as they are
    args.output_dir = str(run_dir.folder)
    args.push_to_hub = False  # not every checkpoint: the model, when it has been measured
    args.hub_token = None  # else each checkpoint's training_args.bin would hold it
    return TrainingRun(
        data_args, model_args, args,
        run_dir=run_dir, requested=requested, recorded=recorded, command=command, started=started,
    )  # fmt: skip


def choose_run(arguments: Arguments, claims: ExitStack) -> RunDir:
    """The run's folder, named after the data where the user has not named it; claimed."""
    args = arguments.training
    options = {"name": arguments.data.name, "resume": args.resume_from_checkpoint}
    if args.output_dir is not None:  # before anything of a run that is alive is looked at
        claims.enter_context(claim(Path(args.output_dir).expanduser()))
    while True:
        run_dir = choose_run_dir(args.output_dir, overwrite=args.overwrite_output_dir, **options)
        if args.output_dir is not None:
            return run_dir
        try:
            claims.enter_context(claim(run_dir.folder))
            return run_dir
        except InUseError:
            if run_dir.checkpoint:
                raise  # else another run was faster, and there is a next name


def finished_metrics(run: TrainingRun) -> dict[str, Any]:
    """Of a run that was to be resumed and has nothing left to do."""
    if run.args.resume_from_checkpoint != "auto":
        folder = run.run_dir.checkpoint.parent
        raise InputError(
            f"{folder}: this run has finished. To train its model further, start another run from "
            f"it: model_name_or_path={shlex.quote(str(folder))}, with another output_dir."
        )
    logger.info("%s: this run has finished", run.folder)
    recorded = json.loads((run.folder / METRICS).read_text(encoding="utf-8"))
    return recorded | {"output_dir": str(run.folder)}  # it may have been moved since


def load(run: TrainingRun) -> None:
    """See that the model can be pushed, if it will be; load the photos, the same as recorded."""
    run.repo_id = on_main_process(lambda: choose_repository(run.requested.training, run.folder))
    set_all_seeds(run.args)
    run.datasets = on_main_process(lambda: load_datasets(run.data_args, run.run_dir, run.args.seed))
    if run.recorded:
        place = absolute(run.data_args.data_dir)
        check_same_photos(run.recorded, fingerprint=run.fingerprint, place=place)


def choose_repository(args: FruitTrainingArguments, folder: Path) -> str | None:
    """Where the model will be pushed to, if it will; raises now where the token won't do."""
    if not args.push_to_hub:
        return None
    name = args.hub_model_id or folder.absolute().name
    options = {"license": args.hub_license, "token": args.hub_token}
    return check_push(name, private=bool(args.hub_private_repo), **options)


def set_all_seeds(args: FruitTrainingArguments) -> None:
    """From here on the same numbers are drawn; with `full_determinism`, sums are the same, too."""
    enable_full_determinism(args.seed) if args.full_determinism else set_seed(args.seed)


# ---- plan: what depends on the time, the model and the machine ----


def plan(run: TrainingRun) -> None:
    """Settle what was left open, and make the trainer."""
    if run.args.time_budget and not run.recorded:
        run.unplanned = copy.copy(run.args)
        adopt(run, fit_into_time(run))
    make_ready(run)


def make_ready(run: TrainingRun) -> None:
    """The model and its trainer, as the arguments say by now."""
    options = {"augment": run.data_args.augment, "coarse": run.datasets.coarse}
    run.prepared = prepare_model(run.model_args, run.args, run.labels, **options)
    set_views(run, choose_views(run))
    recorded = run.recorded and run.recorded["training"]
    run.args = resolve_arguments(run.args, run.prepared, recorded=recorded)
    run.prepared = replace(run.prepared, bf16_features=choose_precision(run))
    disable_progress_bar()  # transformers' own, one for each file saved; the Trainer's bar stays
    run.trainer = make_trainer(run, callbacks=[LogParameterGroupsCallback()])
    run.trainer.try_optimizer()
    if run.run_dir.checkpoint:
        logger.info("resuming from %s", run.run_dir.checkpoint)
    logger.info("%s", describe_start(run))
    warn_of_few_steps(len(run.datasets["train"]), run.args)


def adopt(run: TrainingRun, plan: Plan) -> None:
    """Do what is planned, as if that had been asked for."""
    run.plan = plan
    logger.info("%s", describe_plan(plan, run.args.time_budget))
    run.model_args, run.args.num_train_epochs = plan.model_args, plan.epochs
    set_all_seeds(run.args)


def set_views(run: TrainingRun, views: int) -> None:
    """Cache features of this many views, and record it; 0 for none."""
    run.prepared = replace(run.prepared, views=views)
    run.model_args = replace(run.model_args, feature_cache_views=views)


def warn_of_few_steps(images: int, args: FruitTrainingArguments) -> None:
    """Warn where epochs that suit thousands of photos leave very few steps."""
    an_epoch = args.steps_per_epoch(images)
    steps = math.ceil(an_epoch * args.num_train_epochs)
    if steps < FEWEST_STEPS and args.max_steps <= 0:
        enough = math.ceil(FEWEST_STEPS / an_epoch)
        logger.warning(
            f"{counted(args.num_train_epochs, 'epoch is', 'epochs are')} only "
            f"{counted(steps, 'step')}: few photos may need more (num_train_epochs={enough})"
        )


class LogParameterGroupsCallback(TrainerCallback):
    """Logs the optimizer's parameter groups before the first step."""

    def on_train_begin(self, args, state, control, optimizer: Optimizer = None, **kwargs):
        logger.info("%s", format_groups(optimizer))


# ---- fit ----


def fit(run: TrainingRun) -> TrainOutput:
    """Train from the run's checkpoint, or from scratch.

    Raises `RunInterruptedError` when asked to end, and `InputError` for training that diverges, a
    full disk and a DataLoader worker that was killed.
    """
    if not run.run_dir.checkpoint:
        start_head(run)
    if run.args.time_budget:
        keep_to_time(run)
    PartialState().wait_for_everyone()  # all have read what the next line may remove
    on_main_process(lambda: start_folder(run))
    checkpoint = run.run_dir.checkpoint and str(run.run_dir.checkpoint)
    with StopOnSignalCallback() as stopping:
        run.trainer.add_callback(stopping)
        with translate_worker_errors(
            "Set a smaller dataloader_num_workers: the same command with resume_from_checkpoint "
            "resumes."
        ):
            return run.trainer.train(resume_from_checkpoint=checkpoint)


def start_head(run: TrainingRun) -> None:
    """Fit the head before anything else learns."""
    with ends_at_once(), translate_worker_errors("Set a smaller dataloader_num_workers."):
        probe_head(run)
    set_all_seeds(run.args)  # the same, whether it was fitted or not


def cache_features(run: TrainingRun) -> None:
    """Train on cached features; on the photos where there is no room, if that is allowed."""
    if not run.prepared.views:
        return
    try:
        use_cached_features(run)
    except NoRoomError as error:  # another run was faster than this one
        asked = run.requested.model.feature_cache_views
        if asked or run.recorded or run.args.full_determinism:
            raise
        logger.warning("features are not cached, training reads the photos: %s", error)
        set_views(run, 0)
    set_all_seeds(run.args)  # the same, whether they had to be computed or not


def plan_again(run: TrainingRun) -> None:
    """Where the machine was busy when it was tried, a better setting may fit into what is left."""
    now, better = measure_again(run), None
    if has_sped_up(run, now):
        asked = replace(run, model_args=run.requested.model, args=run.unplanned)
        better = fit_into_time(asked, better_than=run.plan)
    if not better:
        run.plan = now
        return
    logger.info("time_budget: the machine is faster than it was, so that is planned again")
    run.args = run.unplanned
    if run.args.try_bf16:  # which may have been chosen meanwhile
        run.args = with_precision(run.args, "no")
    adopt(run, better)
    make_ready(run)
    cache_features(run)


def keep_to_time(run: TrainingRun) -> None:
    """Have training end in time: by its number of epochs, and if that was wrong, by the clock.

    A resumed run, without a plan, has the same epochs and all of the time again.
    """
    budget = parse_duration(run.args.time_budget, name="time_budget")
    if run.plan:
        epochs = run.plan.epochs_within(seconds_left(run))
        if epochs != run.args.num_train_epochs:
            logger.info("time_budget: there is time for %g epochs", epochs)
        run.args.num_train_epochs = run.trainer.args.num_train_epochs = epochs
    run.trainer.add_callback(TimeBudgetCallback(run.started + budget - run.seconds_at_end))


def start_folder(run: TrainingRun) -> None:
    """Now that nothing can be wrong any more: make room, and write down what is to be done."""
    with translate_open_errors(run.folder):
        if run.run_dir.replaces:
            clear_run(run.folder)
        for name in (METRICS, DIVERGED, CARD, REPORT, PLOT):  # a run that is resumed has not ended
            (run.folder / name).unlink(missing_ok=True)
        remove_examples(run.folder)
        write_start(run)


def write_start(run: TrainingRun) -> None:
    """The split lists, and last the arguments: with these, evaluation knows what was trained on."""
    run.datasets.write_lists(run.run_dir.lists)
    write_train_digests(run.datasets.digests, run.folder)
    write_json(run.folder / TRAINING_ARGS, argument_record(run))


# ---- finish: save, measure, show, push ----


def finish(run: TrainingRun, output: TrainOutput) -> dict[str, Any]:
    """Save the model, then measure it; `metrics.json` comes last, so it marks a finished run."""
    model = run.trainer.accelerator.unwrap_model(run.trainer.model)
    if run.model_args.lora_rank:
        model = merge_lora(model)
    weights = None
    if run.args.divides_weights:
        weights = run.trainer.accelerator.get_state_dict(run.trainer.model_wrapped)
    on_main_process(lambda: save(run, model, weights))  # before anything else can fail
    evaluated = measure(run, model)
    metrics = metrics_record(run, model, evaluated.figures, output)
    on_main_process(lambda: write_json(run.folder / METRICS, metrics))
    if PartialState().is_main_process:
        log = run.trainer.state.log_history
        show_artifact(evaluated, run.data_args, log=log, best_epoch=run.best_epoch)
        with optional_output(run.folder / EXAMPLES, remedy="The demo of this model shows none."):
            some = choose_examples(evaluated.rows, max_pixels=run.data_args.max_image_pixels)
            save_examples(some, run.folder)
        with optional_output(run.folder / CARD, remedy="`hffruits push` makes one of its own."):
            write_model_card(run.folder)
    PartialState().wait_for_everyone()
    if run.repo_id and PartialState().is_main_process:  # the others needn't wait for an upload
        push(run.folder, run.repo_id, run.requested.training)
    return metrics


def save(run: TrainingRun, model: nn.Module, weights: dict[str, Any] | None = None) -> None:
    """The model and the log; `weights` are whole where the model's own are divided."""
    with translate_disk_errors(run.folder), translate_open_errors(run.folder):
        if not (run.folder / TRAINING_ARGS).is_file():  # the folder was removed meanwhile
            write_start(run)
        save_model(model, run.prepared.processor, run.folder, weights=weights)
        write_json(run.folder / LOG, run.trainer.state.log_history)


def measure(run: TrainingRun, model: nn.Module) -> EvaluatedArtifact:
    """Calibrate the saved model, and evaluate it on what was not trained on."""
    options = {
        "device": run.args.device,
        "batch_size": run.args.per_device_eval_batch_size,
        "max_pixels": run.data_args.max_image_pixels,
    }

    def adjust() -> None:
        if run.args.batch_norm == "recalibrate":
            recalibrate(model, clean_batches(run))
            save(run, model)
        calibrate_artifact(run.folder, run.datasets, reject_rate=run.args.reject_rate, **options)

    again = shlex.join(["hffruits", "evaluate", str(run.folder)])
    with added_to_errors(f"The model is saved in {run.folder}; `{again}` evaluates it."):
        on_main_process(adjust)
        return evaluate_artifact(run.folder, run.datasets, **options)


def clean_batches(run: TrainingRun) -> Iterator[torch.Tensor]:
    """Training images as validation would see them, (B, 3, H, W), at most some thousands."""
    train, max_pixels = run.datasets.split("train"), run.data_args.max_image_pixels
    rows = as_tensors(train, EvalTransform(run.prepared.processor), max_pixels=max_pixels)
    batches = rows.drawn_batches(RECALIBRATION_IMAGES, run.args)
    bar = progress_bar(batches, desc="Batch norm", disable=run.args.disable_tqdm, leave=False)
    for batch in bar:
        yield batch["pixel_values"].to(run.args.device)


def push(folder: Path, repo_id: str, args: FruitTrainingArguments) -> None:
    """Push the finished run. An error says how to push it later."""
    options = ["--private"] if args.hub_private_repo else []
    options += [] if args.hub_report else ["--no_report"]
    options += ["--license", args.hub_license] if args.hub_license else []
    later = shlex.join(["hffruits", "push", str(folder), repo_id, *options])
    with added_to_errors(f"The model is saved; push it with `{later}`."):
        pushed = push_model.push(
            folder,
            repo_id,
            private=bool(args.hub_private_repo),
            report=args.hub_report,
            license=args.hub_license,
            token=args.hub_token,
        )
    logger.info("Pushed    %s (commit %s): %s", pushed.repo_id, pushed.commit[:7], pushed.url)
