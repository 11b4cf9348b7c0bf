"""One training run, top to bottom: load, split, build, train, evaluate, save.

Every process of a distributed run calls `train`; only the main one writes.
"""

import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, set_seed
from transformers.image_processing_utils import BaseImageProcessor
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils.logging import disable_progress_bar

from hffruits.card import write_model_card
from hffruits.config import (
    DataArguments,
    FruitTrainingArguments,
    ModelArguments,
    cores_per_process,
)
from hffruits.data import FruitDatasets, load_fruits
from hffruits.errors import InputError
from hffruits.models import build_model, find_model, is_convolutional, load_model, save_model
from hffruits.optim import default_learning_rate
from hffruits.samples import samples_dir
from hffruits.trainer import FruitTrainer, as_tensors
from hffruits.transforms import AUGMENTATIONS, InputSpec, eval_transform, train_transform

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def train(
    data_args: DataArguments, model_args: ModelArguments, args: FruitTrainingArguments
) -> dict[str, Any]:
    """Train one model and write its artifact folder. Returns what `metrics.json` holds.

    Raises `InputError` for anything wrong with the arguments or the data, before training starts.
    """
    started = time.monotonic()
    check_arguments(data_args, model_args, args)
    output_dir = choose_output_dir(data_args, args)
    checkpoint = find_checkpoint(args, output_dir)
    args.output_dir = str(output_dir)
    set_seed(args.seed)

    datasets = on_main_process(lambda: load_datasets(data_args, output_dir, checkpoint, args.seed))
    labels = datasets["train"].features["label"].names
    model, processor = build_model(
        model_args.model_name_or_path,
        labels=labels,
        pretrained=model_args.pretrained,
        revision=model_args.model_revision,
    )
    if is_convolutional(model):
        model = model.to(memory_format=torch.channels_last)
    if args.learning_rate is None:
        args.learning_rate = default_learning_rate(model)
    if args.device.type == "cpu":
        torch.set_num_threads(cores_per_process())  # `accelerate launch` leaves one thread to each
    disable_progress_bar()  # transformers' own, one for each file saved; the Trainer's bar stays

    trainer = FruitTrainer(
        model=model,
        args=args,
        train_dataset=as_tensors(
            datasets["train"], train_transform(InputSpec.of(processor), data_args.augment)
        ),
        eval_dataset=as_tensors(datasets["validation"], eval_transform(processor)),
    )
    logger.info("%s", describe_start(datasets, model_args, model, processor, args))
    output = trainer.train(resume_from_checkpoint=checkpoint)
    if PartialState().is_main_process:
        save_model(trainer.accelerator.unwrap_model(trainer.model), processor, output_dir)
    PartialState().wait_for_everyone()

    metrics = {
        "output_dir": str(output_dir),
        "data": describe_data(datasets, data_args),
        "model": {
            "name_or_path": model_args.model_name_or_path,
            "parameters": model.num_parameters(),
        },
        **evaluate_artifact(output_dir, datasets, args),
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
        write_records(output_dir, metrics, trainer, data_args, model_args)
    PartialState().wait_for_everyone()
    return metrics


def evaluate_artifact(
    folder: Path, datasets: FruitDatasets, args: FruitTrainingArguments
) -> dict[str, dict[str, float]]:
    """Metrics of the saved model, in full precision, on each split that was not trained on.

    What is measured is what a user will load. Across processes each sample counts once.
    """
    model, processor = load_model(folder)
    if is_convolutional(model):
        model = model.to(memory_format=torch.channels_last)
    # a Trainer of its own: the one that trained has autocast wrapped around its model
    exact = dataclasses.replace(
        args,
        **{"bf16": False, "fp16": False, "torch_compile": False},
        **{"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False},
    )
    evaluator = FruitTrainer(model=model, args=exact)
    results = {}
    for split in ("validation", "test"):
        if split in datasets:
            rows = as_tensors(datasets[split], eval_transform(processor))
            measured = evaluator.evaluate(rows, metric_key_prefix=split)
            names = ("loss", "accuracy", "top5_accuracy", "macro_f1")
            results[split] = {name: measured[f"{split}_{name}"] for name in names}
            results[split]["images"] = len(rows)
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
    if model_args.pretrained:
        find_model(model_args.model_name_or_path, revision=model_args.model_revision)


def choose_output_dir(data_args: DataArguments, args: FruitTrainingArguments) -> Path:
    """The folder asked for, or a new `runs/NAME`; never one with a model that would be lost."""
    if args.output_dir is None:
        if args.resume_from_checkpoint == "last":
            raise InputError("resume_from_checkpoint: name the run to go on with as output_dir.")
        name = Path(data_args.data_dir).resolve().name if data_args.data_dir else "sample"
        choices = [Path("runs", name), *(Path("runs", f"{name}-{n}") for n in range(2, 1000))]
        return on_main_process(lambda: next(path for path in choices if not path.exists()))
    folder = Path(args.output_dir).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file. Give output_dir another name.")
    has_run = folder.is_dir() and (
        (folder / "config.json").exists() or get_last_checkpoint(str(folder)) is not None
    )
    if has_run and not args.resume_from_checkpoint:
        if not args.overwrite_output_dir:
            raise InputError(
                f"{folder}: holds a run already. Choose another output_dir, go on with "
                "--resume_from_checkpoint, or replace it with --overwrite_output_dir."
            )
        on_main_process(lambda: remove_run(folder))
    return folder


def remove_run(folder: Path) -> None:
    """Delete what a run wrote, and nothing else that may lie in its folder."""
    for path in folder.iterdir():
        if path.name.startswith("checkpoint-") or path.name == "splits":
            shutil.rmtree(path)
        elif path.name in ARTIFACT_FILES:
            path.unlink()


ARTIFACT_FILES = {
    "config.json", "model.safetensors", "preprocessor_config.json", "README.md", "metrics.json",
    "training_args.json", "log_history.json",
}  # fmt: skip


def find_checkpoint(args: FruitTrainingArguments, output_dir: Path) -> str | None:
    """The checkpoint to go on from, or None for a new run."""
    wanted = args.resume_from_checkpoint
    if not wanted or wanted.lower() == "false":
        return None
    if wanted.lower() in ("last", "true"):
        last = get_last_checkpoint(str(output_dir)) if output_dir.is_dir() else None
        if last is None:
            raise InputError(f"{output_dir}: no checkpoint to resume from. Start without resuming.")
        return last
    if not (Path(wanted) / "trainer_state.json").is_file():
        raise InputError(f"{wanted}: not a checkpoint folder. Name one like runs/x/checkpoint-50.")
    return wanted


def load_datasets(
    data_args: DataArguments, output_dir: Path, checkpoint: str | None, seed: int
) -> FruitDatasets:
    """Check and split the photos; a resumed run keeps the split that it began with."""
    lists = data_args.split_lists
    own_lists = output_dir / "splits"
    if lists is None and checkpoint is not None and (own_lists / "train.txt").is_file():
        lists = own_lists
    return load_fruits(
        data_args.data_dir or samples_dir(),
        validation_fraction=data_args.validation_fraction,
        test_fraction=data_args.test_fraction,
        seed=seed,
        lists_dir=lists,
        write_lists_to=own_lists,
        max_bad_fraction=data_args.max_bad_fraction,
        max_pixels=data_args.max_image_pixels,
    )


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
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "training_args.json", arguments)
    write_json(folder / "log_history.json", trainer.state.log_history)
    labels = [trainer.model.config.id2label[i] for i in range(trainer.model.config.num_labels)]
    write_model_card(folder, metrics, labels)


def write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def best_epoch(trainer: FruitTrainer) -> float | None:
    """The epoch of the checkpoint that was kept, where a best one was chosen."""
    step = trainer.state.best_global_step
    evaluations = [row for row in trainer.state.log_history if "eval_loss" in row]
    return next((row["epoch"] for row in evaluations if row["step"] == step), None)


# ---- in words ----


def describe_data(datasets: FruitDatasets, data_args: DataArguments) -> dict[str, Any]:
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
) -> str:
    """Two lines that say what is about to be trained."""
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in datasets.items())
    size = "x".join(map(str, InputSpec.of(processor).size))
    return (
        f"{datasets['train'].features['label'].num_classes} classes; {sizes} images"
        f"{f'; {len(datasets.skipped)} left out' if datasets.skipped else ''}\n"
        f"{model_args.model_name_or_path} ({model.num_parameters() / 1e6:.1f} M parameters) at "
        f"{size}, learning rate {args.learning_rate:g} ({args.lr_scheduler_type.value}), "
        f"{'bf16' if args.bf16 else 'fp16' if args.fp16 else 'fp32'} on {args.device.type}"
    )


def format_summary(metrics: dict[str, Any]) -> str:
    """The run on one screen: what was trained on what, how good it is, what to do next."""
    data, training, folder = metrics["data"], metrics["training"], metrics["output_dir"]
    minutes, seconds = divmod(round(training["seconds"]), 60)
    sizes = ", ".join(f"{split} {count:,}" for split, count in data["images"].items())
    best = training["best_epoch"]
    lines = [
        "",
        f"Data      {data['data_dir']}: {data['classes']} classes; {sizes} images; "
        f"{len(data['skipped'])} left out",
        f"Model     {metrics['model']['name_or_path']}, "
        f"{metrics['model']['parameters'] / 1e6:.1f} M parameters",
        f"Training  {training['epochs']:.4g} epochs in {minutes} min {seconds} s"
        + (f", best epoch {best:.4g}" if best else "")
        + f" ({training['images_per_second']:.1f} images/s with validation)",
    ]
    for split, title in (("validation", "Validated"), ("test", "Tested")):
        if split in metrics:
            m = metrics[split]
            lines.append(
                f"{title:10}accuracy {m['accuracy']:.1%}, "
                f"top-5 {m['top5_accuracy']:.1%}, macro-F1 {m['macro_f1']:.1%} "
                f"({m['images']:,} images)"
            )
    lines += ["", f"Saved     {folder}", f"Try it    python app.py --model {folder}"]
    return "\n".join(lines)
