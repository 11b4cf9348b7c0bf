"""One training run, top to bottom: load, split, build, train, evaluate, save.

Every process of a distributed run calls `train`; only the main one writes.
"""

import copy
import dataclasses
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, set_seed
from transformers.image_processing_utils import BaseImageProcessor
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import IntervalStrategy
from transformers.utils.logging import disable_progress_bar

from hffruits.card import write_model_card
from hffruits.config import (
    DataArguments,
    FruitTrainingArguments,
    ModelArguments,
    cores_per_process,
    launcher_took_threads,
)
from hffruits.data import FruitDatasets, load_fruits, write_lists
from hffruits.errors import InputError
from hffruits.freezing import check_plan, freeze_backbone, has_layer_groups
from hffruits.metrics import METRIC_NAMES
from hffruits.models import (
    build_model,
    find_model,
    head_names,
    load_model,
    save_model,
    use_fast_layout,
)
from hffruits.optim import default_learning_rate
from hffruits.precision import bf16_is_faster
from hffruits.run_dir import RunDir, choose_run_dir, clear_run
from hffruits.samples import samples_dir
from hffruits.trainer import FruitTrainer, as_tensors
from hffruits.transforms import AUGMENTATIONS, EvalTransform, input_size, train_transform

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def train(
    data_args: DataArguments, model_args: ModelArguments, training_args: FruitTrainingArguments
) -> dict[str, Any]:
    """Train one model and write its artifact folder. Returns what `metrics.json` holds.

    Raises `InputError` for anything wrong with the arguments or the data, before training starts
    and before anything of an earlier run is removed.
    """
    started = time.monotonic()
    check_arguments(data_args, model_args, training_args)
    run = on_main_process(lambda: choose_run(data_args, training_args))
    args = copy.copy(training_args)  # the caller's stay as they are
    args.output_dir = str(run.folder)
    set_seed(args.seed)

    datasets = on_main_process(lambda: load_datasets(data_args, run, args.seed))
    model, processor = build_model(
        model_args.model_name_or_path,
        labels=datasets["train"].features["label"].names,
        pretrained=model_args.pretrained,
        revision=model_args.model_revision,
    )
    frozen = freeze_backbone(model, choose_freezing(model_args, model), head=head_names(model))
    model = use_fast_layout(model)
    if args.learning_rate is None:
        args.learning_rate = default_learning_rate(model)
    if args.device.type == "cpu" and launcher_took_threads():
        torch.set_num_threads(cores_per_process())
    if args.try_bf16 and on_main_process(lambda: bf16_is_faster(model, input_size(processor))):
        args = with_precision(args, "bf16")
    disable_progress_bar()  # transformers' own, one for each file saved; the Trainer's bar stays
    PartialState().wait_for_everyone()  # all have read what the next line may remove
    on_main_process(lambda: start_folder(run, datasets))

    max_pixels = data_args.max_image_pixels
    augmented = train_transform(processor, data_args.augment)
    plain = EvalTransform(processor)
    trainer = FruitTrainer(
        model=model,
        args=args,
        train_dataset=as_tensors(datasets["train"], augmented, max_pixels=max_pixels),
        eval_dataset=as_tensors(datasets["validation"], plain, max_pixels=max_pixels),
    )
    logger.info("%s", describe_start(datasets, model_args, model, processor, args, frozen))
    checkpoint = str(run.checkpoint) if run.checkpoint else None
    output = trainer.train(resume_from_checkpoint=checkpoint)
    if PartialState().is_main_process:
        save_model(trainer.accelerator.unwrap_model(trainer.model), processor, run.folder)
    PartialState().wait_for_everyone()

    metrics = {
        "output_dir": str(run.folder),
        "data": describe_data(datasets, data_args),
        "model": {
            "name_or_path": model_args.model_name_or_path,
            "parameters": model.num_parameters(),
            "frozen_parameters": sum(model.get_parameter(name).numel() for name in frozen),
        },
        **evaluate_artifact(run.folder, datasets, args, max_pixels=max_pixels),
        "training": {
            "epochs": trainer.state.epoch,
            "best_epoch": best_epoch(trainer),
            "steps": trainer.state.global_step,
            "seconds": round(time.monotonic() - started, 1),
            "images_per_second": round(output.metrics["train_samples_per_second"], 2),
            "bf16": args.bf16,
            "processes": PartialState().num_processes,
        },
    }
    if PartialState().is_main_process:
        write_records(run.folder, metrics, trainer, data_args, model_args)
    PartialState().wait_for_everyone()
    return metrics


def evaluate_artifact(
    folder: Path, datasets: FruitDatasets, args: FruitTrainingArguments, *, max_pixels: int
) -> dict[str, dict[str, float]]:
    """Metrics of the saved model, in full precision, on each split that was not trained on.

    What is measured is what a user will load. Across processes each sample counts once.
    """
    model, processor = load_model(folder)
    model = use_fast_layout(model)
    # a Trainer of its own: the one that trained has autocast wrapped around its model
    exact = with_precision(args, "no")
    exact.torch_compile, exact.torch_compile_backend, exact.torch_compile_mode = False, None, None
    exact.eval_strategy, exact.load_best_model_at_end = IntervalStrategy.NO, False
    exact.label_smoothing_factor, exact.report_to = 0.0, []
    evaluator = FruitTrainer(model=model, args=exact)
    results = {}
    for split in ("validation", "test"):
        if split in datasets:
            rows = as_tensors(datasets[split], EvalTransform(processor), max_pixels=max_pixels)
            measured = evaluator.evaluate(rows, metric_key_prefix=split)
            results[split] = {name: measured[f"{split}_{name}"] for name in METRIC_NAMES}
            results[split] |= {"loss": measured[f"{split}_loss"], "images": len(rows)}
    return results


# ---- before training ----


def check_arguments(
    data_args: DataArguments, model_args: ModelArguments, args: FruitTrainingArguments
) -> None:
    """Everything that can be refused without reading data, first."""
    if data_args.augment not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise InputError(f"augment={data_args.augment}: unknown. Known: {known}.")
    if args.push_to_hub:
        raise InputError(
            "push_to_hub: not part of training yet. Train, then run `hf upload USER/NAME RUN`."
        )
    if args.remove_unused_columns:
        raise InputError("remove_unused_columns: would drop the pictures. Leave it off.")
    for name in ("num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size"):
        if getattr(args, name) <= 0:
            raise InputError(f"{name}={getattr(args, name)}: must be more than 0.")
    best = (args.metric_for_best_model or "loss").removeprefix("eval_")
    choices = ("loss", *METRIC_NAMES, "steady_accuracy")
    if best not in choices:
        known = ", ".join(choices)
        raise InputError(f"metric_for_best_model={best}: unknown. Known: {known}.")
    missing = set(args.report_to) - set(get_available_reporting_integrations())
    if missing:
        names = ", ".join(sorted(missing))
        raise InputError(f"report_to={names}: not installed. Run pip install {names}, or use none.")
    check_plan(model_args.freeze)
    if model_args.pretrained:
        find_model(model_args.model_name_or_path, revision=model_args.model_revision)


def choose_run(data_args: DataArguments, args: FruitTrainingArguments) -> RunDir:
    """The run's folder, named after the data where the user has not named it."""
    return choose_run_dir(
        args.output_dir,
        name=Path(data_args.data_dir).resolve().name if data_args.data_dir else "sample",
        resume=args.resume_from_checkpoint,
        overwrite=args.overwrite_output_dir,
    )


def choose_freezing(model_args: ModelArguments, model: PreTrainedModel) -> str:
    """The plan asked for, except where the default makes no sense: random weights, no stages."""
    by_default = model_args.freeze == ModelArguments.freeze
    if by_default and not (model_args.pretrained and has_layer_groups(model)):
        return "none"
    return model_args.freeze


def load_datasets(data_args: DataArguments, run: RunDir, seed: int) -> FruitDatasets:
    """Check and split the photos; a resumed run keeps the split that it began with."""
    return load_fruits(
        data_args.data_dir or samples_dir(),
        validation_fraction=data_args.validation_fraction,
        test_fraction=data_args.test_fraction,
        seed=seed,
        lists_dir=data_args.split_lists or run.lists_to_repeat,
        max_bad_fraction=data_args.max_bad_fraction,
        max_pixels=data_args.max_image_pixels,
    )


def start_folder(run: RunDir, datasets: FruitDatasets) -> None:
    """Now that nothing can be wrong any more: make room, and write down the split."""
    if run.replaces:
        clear_run(run.folder)
    write_lists(datasets, run.lists)


def on_main_process(action: Callable[[], Result]) -> Result:
    """Do it once, on the main process, and give every process its result, or its `InputError`."""
    outcome: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            outcome[0] = action()
        except InputError as error:
            outcome[1] = error
    if PartialState().num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def with_precision(args: FruitTrainingArguments, precision: str) -> FruitTrainingArguments:
    """A copy of the arguments with `no`, `bf16` or `fp16`, whatever the launcher has set.

    `dataclasses.replace` would set up the devices anew, and lose the other processes.
    """
    args = copy.copy(args)
    args.bf16, args.fp16, args.mixed_precision = precision == "bf16", precision == "fp16", precision
    AcceleratorState._reset_state()  # accelerate refuses another precision otherwise
    return args


# ---- after training ----


def write_records(
    folder: Path,
    metrics: dict[str, Any],
    trainer: FruitTrainer,
    data_args: DataArguments,
    model_args: ModelArguments,
) -> None:
    """What was measured, and what it takes to do it again."""
    arguments = {
        "data": dataclasses.asdict(data_args),
        "model": dataclasses.asdict(model_args),
        "training": trainer.args.to_dict(),  # tokens are masked there
    }
    _write_json(folder / "metrics.json", metrics)
    _write_json(folder / "training_args.json", arguments)
    _write_json(folder / "log_history.json", trainer.state.log_history)
    config = trainer.model.config
    write_model_card(folder, metrics, [config.id2label[i] for i in range(config.num_labels)])


def _write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def best_epoch(trainer: FruitTrainer) -> float | None:
    """The epoch of the checkpoint that was kept, where a best one was chosen."""
    if not trainer.args.load_best_model_at_end:
        return None
    step = trainer.state.best_global_step
    evaluations = [row for row in trainer.state.log_history if "eval_loss" in row]
    return next((row["epoch"] for row in evaluations if row["step"] == step), None)


# ---- in words ----


def describe_data(datasets: FruitDatasets, data_args: DataArguments) -> dict[str, Any]:
    """The `data` part of `metrics.json`."""
    return {
        "data_dir": data_args.data_dir or "the drawn sample set",
        "classes": datasets["train"].features["label"].num_classes,
        "images": {split: len(rows) for split, rows in datasets.items()},
        "skipped": [{"path": str(s.path), "reason": s.reason} for s in datasets.skipped],
    }


def describe_start(
    datasets: FruitDatasets,
    model_args: ModelArguments,
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    args: FruitTrainingArguments,
    frozen: list[str],
) -> str:
    """Three lines that say what is about to be trained."""
    share = sum(model.get_parameter(name).numel() for name in frozen) / model.num_parameters()
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in datasets.items())
    left_out = f"; {len(datasets.skipped)} left out" if datasets.skipped else ""
    size = "x".join(map(str, input_size(processor)))
    millions = model.num_parameters() / 1e6
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    return (
        f"{datasets['train'].features['label'].num_classes} classes; {sizes} images{left_out}\n"
        f"{model_args.model_name_or_path} at {size}: {millions:.1f} M parameters, "
        f"{share:.0%} of them frozen\n"
        f"learning rate {args.learning_rate:g} ({args.lr_scheduler_type.value}), {precision} on "
        f"{args.device.type}"
    )
