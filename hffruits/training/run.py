"""One training run, top to bottom: load, split, build, train, evaluate, save.

Every process of a distributed run calls `train`; only the main one writes.
"""

import copy
import json
import logging
import math
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import TrainerCallback, enable_full_determinism, set_seed
from transformers.trainer_utils import TrainOutput
from transformers.utils.logging import disable_progress_bar

from hffruits.core.dataloader_workers import translate_worker_errors
from hffruits.core.distributed import on_main_process, translate_peer_errors
from hffruits.core.environment import environment, versions
from hffruits.core.errors import InputError, added_to_errors, optional_output
from hffruits.core.files import write_json
from hffruits.data.arguments import DataArguments
from hffruits.data.load import FruitDatasets
from hffruits.data.splits import write_lists
from hffruits.data.stream_dataset import StreamSplit
from hffruits.data.stream_rows import stream_loader
from hffruits.data.transforms import EvalTransform, input_size
from hffruits.evaluation.run import (
    calibrate_artifact,
    evaluate_artifact,
    show_artifact,
)
from hffruits.hub.commit import check_push
from hffruits.hub.push_model import push_model
from hffruits.models.artifact import CARD, DIVERGED, METRICS, PICTURE, REPORT
from hffruits.models.batch_norm import recalibrate
from hffruits.models.loading import hub_id, save_model
from hffruits.models.lora import merge_lora
from hffruits.models.model_card import write_model_card
from hffruits.training.argument_checks import check_arguments, check_same_photos, check_same_run
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.budget_planner import (
    Plan,
    as_planned,
    describe_plan,
    fit_into_time,
    seconds_left,
)
from hffruits.training.callbacks.signals import StopOnSignalCallback
from hffruits.training.callbacks.time_budget import TimeBudgetCallback, count_seconds
from hffruits.training.checkpoints import translate_disk_errors
from hffruits.training.datasets import as_tensors, collate
from hffruits.training.feature_cache.cache import choose_views, keep_features
from hffruits.training.feature_cache.disk import NoRoomError
from hffruits.training.optimizers import format_groups
from hffruits.training.run_dir import RunDir, check_shared, choose_run_dir, clear_run
from hffruits.training.setup import (
    FruitData,
    PreparedModel,
    load_datasets,
    make_trainer,
    prepare_model,
    resolve_arguments,
)
from hffruits.training.trainer import FruitTrainer

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

    `command` is what to tell others who want the same, if a command has these arguments.

    Raises `InputError` for anything wrong with the arguments or the data, before training starts
    and before anything of an earlier run is removed; `RunInterruptedError` once a run that was
    asked to end is saved, and `PeersLostError` where another process of the run can't be reached any more.
    """
    started = time.monotonic()
    check_arguments(data_args, model_args, training_args)
    run = on_main_process(lambda: choose_run(data_args, training_args))
    check_shared(run.folder)
    recorded = run.recorded_arguments
    if recorded:
        model_args, training_args = as_planned(recorded, model_args, training_args)
        check_same_run(recorded, (data_args, model_args, training_args))
    if run.is_finished:
        if training_args.resume_from_checkpoint != "auto":
            raise InputError(
                f"{run.checkpoint.parent}: this run has finished. There is nothing to go on with."
            )
        logger.info("%s: this run has finished", run.folder)
        return json.loads((run.folder / METRICS).read_text(encoding="utf-8"))
    args = copy.copy(training_args)  # the caller's stay as they are
    args.output_dir = str(run.folder)
    args.push_to_hub = False  # not every checkpoint: the model, when it has been measured
    args.hub_token = None  # else each checkpoint's training_args.bin would hold it
    repo_id = on_main_process(lambda: choose_repository(training_args, run.folder))
    set_all_seeds(args)

    datasets = on_main_process(lambda: load_datasets(data_args, run, args.seed))
    if recorded:
        place = _absolute(data_args.data_dir)
        check_same_photos(recorded, fingerprint=fingerprint_of(datasets), place=place)
    labels = datasets["train"].features["label"].names
    must_keep = bool(model_args.cache_features or recorded or args.full_determinism)
    plan = None
    if args.time_budget and not recorded:
        plan = fit_into_time(datasets, data_args, model_args, args, started=started)
        logger.info("%s", describe_plan(plan, args.time_budget))
        model_args, args.num_train_epochs = plan.model_args, plan.epochs
        set_all_seeds(args)  # as if that had been asked for
    prepared = prepare_model(model_args, args, labels, coarse=datasets.coarse)
    chosen = (datasets, data_args, model_args, args)
    views = choose_views(prepared, *chosen, recorded=recorded)
    prepared = replace(prepared, views=views)
    model_args = replace(model_args, cache_features=f"views:{views}" if views else "none")
    args = resolve_arguments(args, prepared, recorded=recorded and recorded["training"])
    disable_progress_bar()  # transformers' own, one for each file saved; the Trainer's bar stays
    trainer = make_trainer(
        prepared, datasets, data_args, args, callbacks=[LogParameterGroupsCallback()]
    )
    trainer.try_optimizer()
    if run.checkpoint:
        logger.info("going on from %s", run.checkpoint)
    logger.info("%s", describe_start(datasets, model_args, prepared, args))
    warn_of_few_steps(len(datasets["train"]), args)
    if prepared.views:
        try:
            keep_features(trainer, prepared, datasets, data_args, args)
        except NoRoomError as error:  # another run was quicker than this one
            if must_keep:
                raise
            logger.warning("features are not kept, training sees the photos: %s", error)
            prepared = replace(prepared, views=0)
            model_args = replace(model_args, cache_features="none")
        set_all_seeds(args)  # the same, whether they had to be computed or not
    at_end = 0.0
    if args.time_budget:
        at_end = plan.seconds_at_end if plan else recorded.get("seconds_at_end", 0.0)
        keep_to_time(trainer, args, plan, started=started, at_end=at_end)
    PartialState().wait_for_everyone()  # all have read what the next line may remove
    groups = (data_args, model_args, args)
    facts = {"command": command, "seconds_at_end": at_end}
    on_main_process(lambda: start_folder(run, datasets, *groups, **facts))
    output = fit(trainer, run)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if model_args.lora_rank:
        model = merge_lora(model)
    whole = (
        trainer.accelerator.get_state_dict(trainer.model_wrapped) if args.divides_weights else None
    )
    log, max_pixels = trainer.state.log_history, data_args.max_image_pixels
    measuring = {"device": args.device, "batch_size": args.per_device_eval_batch_size}
    measuring["max_pixels"] = max_pixels

    def save() -> None:
        with translate_disk_errors(run.folder):
            save_model(model, prepared.processor, run.folder, weights=whole)
            write_json(run.folder / "log_history.json", log)

    def adjust() -> None:
        if args.batch_norm == "recalibrate":
            recalibrate(model, clean_batches(datasets, prepared, args, max_pixels))
            save()
        calibrate_artifact(run.folder, datasets, reject_rate=args.reject_rate, **measuring)

    on_main_process(save)  # before anything else can fail
    again = shlex.join(["hffruits", "evaluate", str(run.folder)])
    with added_to_errors(f"The model is saved in {run.folder}; `{again}` measures it."):
        on_main_process(adjust)
        evaluated = evaluate_artifact(run.folder, datasets, **measuring)
    metrics = {
        "output_dir": str(run.folder),
        "data": describe_data(datasets, data_args),
        "model": {
            "name_or_path": model_args.model_name_or_path,
            "hub_id": hub_id(model_args.model_name_or_path),
            "pretrained": model_args.pretrained,
            "parameters": model.num_parameters(),
            "frozen_parameters": count_frozen(prepared),
        },
        **evaluated.figures,
        "training": {
            "epochs": trainer.state.epoch,
            "best_epoch": best_epoch(trainer),
            "steps": trainer.state.global_step,
            "resumed": run.checkpoint is not None,
            "seconds": round(time.monotonic() - started, 1),
            "time_budget": args.time_budget,
            "images_per_second": round(output.metrics["train_samples_per_second"], 2),
            "bf16": args.bf16,
            "processes": PartialState().num_processes,
        },
        "versions": versions(),
    }
    on_main_process(lambda: write_json(run.folder / METRICS, metrics))  # so the run has finished
    if PartialState().is_main_process:
        show_artifact(evaluated, data_args, log=log, best_epoch=best_epoch(trainer))
        with optional_output(run.folder / CARD, remedy="`hffruits push` makes one of its own."):
            write_model_card(run.folder)
    PartialState().wait_for_everyone()
    if repo_id and PartialState().is_main_process:  # the others needn't wait for an upload
        push(run.folder, repo_id, training_args)
    return metrics


# ---- before training ----


def set_all_seeds(args: FruitTrainingArguments) -> None:
    """From here on the same numbers are drawn; with `full_determinism`, sums are the same, too."""
    enable_full_determinism(args.seed) if args.full_determinism else set_seed(args.seed)


def choose_run(data_args: DataArguments, args: FruitTrainingArguments) -> RunDir:
    """The run's folder, named after the data where the user has not named it."""
    return choose_run_dir(
        args.output_dir,
        name=data_args.name,
        resume=args.resume_from_checkpoint,
        overwrite=args.overwrite_output_dir,
    )


def choose_repository(args: FruitTrainingArguments, folder: Path) -> str | None:
    """Where the model will be pushed to, if it will; told now if the token won't do."""
    if not args.push_to_hub:
        return None
    name = args.hub_model_id or folder.absolute().name
    options = {"license": args.hub_license, "token": args.hub_token}
    return check_push(name, private=bool(args.hub_private_repo), **options)


def warn_of_few_steps(images: int, args: FruitTrainingArguments) -> None:
    """Say so where epochs that suit thousands of photos leave very few steps."""
    an_epoch = math.ceil(images / args.total_batch_size)
    steps = math.ceil(an_epoch * args.num_train_epochs)
    if steps < FEWEST_STEPS and args.max_steps <= 0:
        enough = math.ceil(FEWEST_STEPS / an_epoch)
        logger.warning(
            f"{args.num_train_epochs:g} epochs are only {steps} steps: few photos may need more "
            f"(num_train_epochs={enough})"
        )


def start_folder(
    run: RunDir,
    datasets: FruitData,
    data_args: DataArguments,
    model_args: ModelArguments,
    args: FruitTrainingArguments,
    *,
    command: str | None,
    seconds_at_end: float,
) -> None:
    """Now that nothing can be wrong any more: make room, and write down what is to be done."""
    if run.replaces:
        clear_run(run.folder)
    for name in (METRICS, DIVERGED, CARD, REPORT, PICTURE):  # a run that goes on has not ended
        (run.folder / name).unlink(missing_ok=True)
    if isinstance(datasets, FruitDatasets):  # a stream's split is a hash of its rows' names
        write_lists(datasets, run.lists)
    arguments = {
        "data": asdict(data_args),
        "data_path": _absolute(data_args.data_dir),
        "model": asdict(model_args),
        # tokens are masked there
        "training": args.to_dict() | {"world_size": args.world_size},
        "command": command,
        "seconds_at_end": seconds_at_end,  # of a time budget, for a run that is resumed
        "data_fingerprint": fingerprint_of(datasets),
        "environment": environment(args.device),
    }
    write_json(run.folder / "training_args.json", arguments)


def keep_to_time(
    trainer: FruitTrainer,
    args: FruitTrainingArguments,
    plan: Plan | None,
    *,
    started: float,
    at_end: float,
) -> None:
    """Have training end in time: by its number of epochs, and if that was wrong, by the clock.

    A resumed run, without a plan, has the same epochs and all of the time again.
    """
    deadline = started + count_seconds(args.time_budget) - at_end
    if plan:
        epochs = plan.epochs_within(seconds_left(args, started))
        if epochs != args.num_train_epochs:
            logger.info("time_budget: there is time for %g epochs", epochs)
        args.num_train_epochs = trainer.args.num_train_epochs = epochs
    trainer.add_callback(TimeBudgetCallback(deadline))


def fit(trainer: FruitTrainer, run: RunDir) -> TrainOutput:
    """Train from the run's checkpoint, or from the start.

    Raises `RunInterruptedError` when asked to end, and `InputError` for training that diverges, a
    full disk and a DataLoader worker that was killed.
    """
    checkpoint = run.checkpoint and str(run.checkpoint)
    with StopOnSignalCallback() as stopping:
        trainer.add_callback(stopping)
        with translate_worker_errors(
            "Set a smaller dataloader_num_workers: the same command with --resume_from_checkpoint "
            "goes on."
        ):
            return trainer.train(resume_from_checkpoint=checkpoint)


def _absolute(data_dir: str | None) -> str | None:
    path = Path(data_dir).expanduser() if data_dir else None
    return str(path.resolve()) if path and path.exists() else None


# ---- after training ----


def clean_batches(
    datasets: FruitData,
    prepared: PreparedModel,
    args: FruitTrainingArguments,
    max_pixels: int,
) -> Iterator[torch.Tensor]:
    """Training pictures as validation would see them, (B, 3, H, W), at most some thousands."""
    rows, transform = datasets["train"], EvalTransform(prepared.processor)
    if isinstance(rows, StreamSplit):
        stream = as_tensors(rows, transform, max_pixels=max_pixels).rows(args, shuffle=True)
        batches = stream_loader(stream, collate_fn=collate)
        batches = islice(batches, max(1, RECALIBRATION_IMAGES // stream.batch_size))
    else:
        rows = rows.shuffle(seed=args.seed).select(range(min(len(rows), RECALIBRATION_IMAGES)))
        rows = as_tensors(rows, transform, max_pixels=max_pixels)
        batches = DataLoader(rows, args.per_device_eval_batch_size, collate_fn=collate)
    for batch in tqdm(batches, desc="Batch norm", disable=args.disable_tqdm, leave=False):
        yield batch["pixel_values"].to(args.device)


def push(folder: Path, repo_id: str, args: FruitTrainingArguments) -> None:
    """Push the finished run. An error says how to push it later."""
    options = ["--private"] if args.hub_private_repo else []
    options += [] if args.hub_report else ["--no_report"]
    options += ["--license", args.hub_license] if args.hub_license else []
    later = shlex.join(["hffruits", "push", str(folder), repo_id, *options])
    with added_to_errors(f"The model is saved; push it with `{later}`."):
        pushed = push_model(
            folder,
            repo_id,
            private=bool(args.hub_private_repo),
            report=args.hub_report,
            license=args.hub_license,
            token=args.hub_token,
        )
    logger.info("Pushed    %s (commit %s): %s", pushed.repo_id, pushed.commit[:7], pushed.url)


def best_epoch(trainer: FruitTrainer) -> float | None:
    """The epoch of the checkpoint that was kept, where a best one was chosen."""
    if not trainer.args.load_best_model_at_end:
        return None
    step = trainer.state.best_global_step
    evaluations = [row for row in trainer.state.log_history if "eval_loss" in row]
    return next((row["epoch"] for row in evaluations if row["step"] == step), None)


# ---- in words ----


class LogParameterGroupsCallback(TrainerCallback):
    """Logs the optimizer's parameter groups before the first step."""

    def on_train_begin(self, args, state, control, optimizer: Optimizer = None, **kwargs):
        logger.info("%s", format_groups(optimizer))


def describe_data(datasets: FruitData, data_args: DataArguments) -> dict[str, Any]:
    """The `data` part of `metrics.json`."""
    label = datasets["train"].features["label"]
    return {
        "data_dir": data_args.source_name,
        "classes": label.num_classes,
        "images": {split: len(rows) for split, rows in datasets.items()},
        "images_per_class": count_per_class(datasets["train"], label.names),
        "near_duplicates_in_train": datasets.leaks,
        "fingerprint": fingerprint_of(datasets),
        "coarse_classes": len(set(datasets.coarse.values())) or None,
        "skipped": [{"path": str(s.path), "reason": s.reason} for s in datasets.skipped],
    }


def fingerprint_of(datasets: FruitData) -> str | None:
    """What tells whether the photos are the same; None for a stream, which nobody has seen."""
    return datasets.fingerprint if isinstance(datasets, FruitDatasets) else None


def count_per_class(rows: Dataset | StreamSplit, names: list[str]) -> dict[str, int] | None:
    """Training images of each class; None for a stream, which nobody has counted."""
    if isinstance(rows, StreamSplit):
        return None
    counts = Counter(rows.with_format(None)["label"][:])  # else each photo is decoded
    return {name: counts[index] for index, name in enumerate(names)}


def count_frozen(prepared: PreparedModel) -> int:
    """Parameters that don't learn at the start."""
    return sum(p.numel() for p in prepared.model.parameters() if not p.requires_grad)


def describe_start(
    datasets: FruitData,
    model_args: ModelArguments,
    prepared: PreparedModel,
    args: FruitTrainingArguments,
) -> str:
    """Three lines that say what is about to be trained."""
    parameters = sum(parameter.numel() for parameter in prepared.model.parameters())
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in datasets.items())
    left_out = f"; {len(datasets.skipped)} left out" if datasets.skipped else ""
    size = "x".join(map(str, input_size(prepared.processor)))
    kept = f"; {prepared.views} views of each image are kept as features" if prepared.views else ""
    factor = args.learning_rate_factor
    scaled = f" x {factor:.3g} for batches of {args.total_batch_size:,}" if factor != 1 else ""
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    return (
        f"{datasets['train'].features['label'].num_classes} classes; {sizes} images{left_out}\n"
        f"{model_args.model_name_or_path} at {size}: {parameters / 1e6:.1f} M parameters, "
        f"{count_frozen(prepared) / parameters:.0%} frozen (freeze={prepared.plan}, "
        f"batch_norm={prepared.batch_norm})\n"
        f"learning rate {args.learning_rate:g}{scaled} ({args.schedule}), {precision} on "
        f"{args.device.type}{kept}"
    )
