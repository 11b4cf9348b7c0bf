"""A run's records: `training_args.json`, `metrics.json`, and the summary that is logged."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import nn
from transformers.trainer_utils import TrainOutput

from hffruits.core.counts import counted
from hffruits.core.environment import environment, versions
from hffruits.data.load import FruitData
from hffruits.data.transforms import input_size
from hffruits.models.freezing import describe_freezing
from hffruits.models.loading import hub_id
from hffruits.training.run_state import KEPT, PROBE, TrainingRun


def argument_record(run: TrainingRun) -> dict[str, Any]:
    """What `training_args.json` holds: all that a resumed run, or anyone who repeats it, needs."""
    return {
        "data": asdict(run.data_args),
        "data_path": absolute(run.data_args.data_dir),
        "model": asdict(run.model_args),
        # tokens are masked there
        "training": run.args.to_dict() | {"world_size": run.args.world_size},
        "command": run.command,
        "bf16_features": run.prepared.bf16_features,
        "seconds_at_end": run.seconds_at_end,
        "data_fingerprint": run.fingerprint,
        "environment": environment(run.args.device),
    }


def absolute(data_dir: str | None) -> str | None:
    """Where the data lies, as a resumed run compares it; None where it isn't on this machine."""
    path = Path(data_dir).expanduser() if data_dir else None
    return str(path.resolve()) if path and path.exists() else None


def metrics_record(
    run: TrainingRun, model: nn.Module, figures: dict[str, Any], output: TrainOutput
) -> dict[str, Any]:
    """What `metrics.json` holds: data, model, `figures` by split, training."""
    state = run.trainer.state
    return {
        "output_dir": str(run.folder),
        "data": describe_data(run),
        "model": {
            "name_or_path": run.model_args.model_name_or_path,
            "hub_id": hub_id(run.model_args.model_name_or_path),
            "pretrained": run.model_args.pretrained,
            "parameters": model.num_parameters(),
            "frozen_parameters": count_frozen(run.prepared.model),
        },
        **figures,
        "training": {
            "epochs": state.epoch,
            "best_epoch": run.best_epoch,
            "steps": state.global_step,
            "resumed": run.run_dir.checkpoint is not None,
            "seconds": round(time.monotonic() - run.started, 1),
            "time_budget": run.args.time_budget,
            "images_per_second": round(output.metrics["train_samples_per_second"], 2),
            "bf16": run.args.bf16,
            "processes": PartialState().num_processes,
        },
        "versions": versions(),
    }


def describe_data(run: TrainingRun) -> dict[str, Any]:
    """The `data` part of `metrics.json`."""
    datasets, names = run.datasets, run.labels
    return {
        "data_dir": run.data_args.source_name,
        "classes": len(names),
        "images": {split: len(rows) for split, rows in datasets.items()},
        "images_per_class": dict(zip(names, datasets.split("train").label_counts, strict=True)),
        "not_measured": count_unmeasured(datasets),
        "dropped_classes": datasets.dropped,
        "near_duplicates_in_train": datasets.leaks,
        "fingerprint": run.fingerprint,
        "coarse_classes": len(set(datasets.coarse.values())) or None,
        "skipped": [{"path": str(s.path), "reason": s.reason} for s in datasets.skipped],
        "truncated": datasets.truncated,
    }


def count_unmeasured(datasets: FruitData) -> dict[str, int]:
    """Class without a photo in any split that is held out -> how many train has of it."""
    train, *held_out = (datasets.split(split) for split in sorted(datasets, key="train".__ne__))
    others = (part.label_counts for part in held_out)
    counts = zip(train.names, train.label_counts, *others, strict=True)
    return {name: count for name, count, *rest in counts if not any(rest)}


def count_frozen(model: nn.Module) -> int:
    """Parameters that don't learn at the start."""
    return sum(p.numel() for p in model.parameters() if not p.requires_grad)


def describe_start(run: TrainingRun) -> str:
    """Three lines that say what is about to be trained."""
    args, prepared, datasets = run.args, run.prepared, run.datasets
    parameters = sum(parameter.numel() for parameter in prepared.model.parameters())
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in datasets.items())
    left_out = f"; {len(datasets.skipped)} left out" if datasets.skipped else ""
    left_out += f"; {len(datasets.truncated)} truncated" if datasets.truncated else ""
    rank = run.model_args.lora_rank
    frozen = (
        f"all but LoRA of rank {rank} and the head frozen"
        if rank
        else describe_freezing(prepared.model, prepared.plan, head=prepared.head)
    )
    size, seen = (
        "x".join(map(str, it)) for it in (prepared.train_size, input_size(prepared.processor))
    )
    size += f", {seen} once trained" if seen != size else ""
    head = {PROBE: "; head by linear probe", KEPT: "; head as it was trained"}
    cached = (
        f"; features of {counted(prepared.views, 'view')} of each image" if prepared.views else ""
    )
    cached += " in bf16" if prepared.views and prepared.bf16_features > args.bf16 else ""
    factor = args.learning_rate_factor
    scaled = f" x {factor:.3g} for batches of {args.total_batch_size:,}" if factor != 1 else ""
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    return (
        f"{counted(len(run.labels), 'class', 'classes')}; {sizes} images{left_out}\n"
        f"{run.model_args.model_name_or_path} at {size}: {parameters / 1e6:.1f} M parameters; "
        f"{frozen} (freeze={prepared.plan}, batch_norm={prepared.batch_norm})\n"
        f"learning rate {args.learning_rate:g}{scaled} ({args.schedule}), {precision} on "
        f"{args.device.type}{head.get(prepared.head_start, '')}{cached}"
    )
