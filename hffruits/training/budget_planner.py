"""The best settings that fit into a time: `--time_budget`.

Settings are looked at from the most accurate down, by what they gave on real photos. What each
costs on this machine is measured on a few of the photos, and the first that fits is taken, with as
many epochs as fit.
"""

import copy
import gc
import math
import operator
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from hffruits.core.distributed import on_main_process, use_own_cores
from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.load import FruitDatasets
from hffruits.data.transforms import input_size
from hffruits.evaluation.calibrate import HELD_OUT
from hffruits.evaluation.predictions import source_of
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.ood import PICTURES as PROTOTYPE_PICTURES
from hffruits.models.frozen_trunk import find_trunk
from hffruits.models.lora import without_lora
from hffruits.models.resizing import is_resizable
from hffruits.training.argument_checks import check_conflicts
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.callbacks.time_budget import count_seconds, format_time
from hffruits.training.feature_cache.cache import choose_views
from hffruits.training.feature_cache.compute import SeededViews, filling_seconds
from hffruits.training.precision import is_faster, step_seconds
from hffruits.training.setup import PreparedModel, prepare_model, trial_forward

PLANNED = ("image_size", "freeze", "num_train_epochs")  # unless they are set
MARGIN = 0.9  # of the time may be planned: machines have other things to do
STEP_MORE = 1.25  # a step against its forward and backward pass: optimizer, average, reading
OTHER_SECONDS = 8.0  # checkpoints, loading the model, the report


@dataclass(frozen=True)
class Setting:
    """What training may be told; `size` is a share of the backbone's own."""

    size: float
    freeze: str
    epochs: tuple[int, int]  # with fewer the next setting is better; more gain nothing


# The most accurate first: benchmarks/README.md, "Within a time".
SETTINGS = (
    Setting(1.0, "half", (12, 16)),  # no better on those, but it learns more of other photos
    Setting(1.0, "three_quarters", (6, 16)),
    Setting(0.857, "three_quarters", (5, 10)),
    Setting(0.714, "three_quarters", (3, 10)),
    Setting(0.714, "head_only", (1, 10)),
)


@dataclass(frozen=True)
class Cost:
    """Seconds on this machine, of one picture each."""

    decode: float  # before its views are computed, where features are kept
    view: float  # to compute and keep its features
    step: float  # to train on it
    check: float  # to validate it between epochs
    answer: float  # to decode and classify it by the finished model

    def fixed(self, work: "Work") -> float:
        """When training is over: a last validation, calibrating, measuring and saving the model."""
        return work.validation * self.check + work.answers * self.answer + OTHER_SECONDS

    def features(self, work: "Work", views: int) -> float:
        """Before the first step."""
        if not views:
            return 0.0
        decoding = (work.train + work.validation) * self.decode
        return work.machines * (decoding + (work.train * views + work.validation) * self.view)

    def epoch(self, work: "Work") -> float:
        """One round of training, with validation."""
        return work.train * self.step + work.validation * self.check


@dataclass(frozen=True)
class Work:
    """Pictures for one process."""

    train: float
    validation: float
    answers: float  # that the finished model will give
    machines: float = 1.0  # each keeps the features of all pictures


@dataclass(frozen=True)
class Plan:
    """What was chosen, and what it is thought to take."""

    model_args: ModelArguments
    epochs: float
    limits: tuple[float, float]  # fewest and most epochs
    views: int
    cost: Cost
    work: Work

    def epochs_within(self, seconds: float) -> float:
        """How many fit into what is left when the features are there; one at least."""
        fewest, most = self.limits
        if fewest == most:
            return most
        fit = (seconds - self.seconds_at_end) / max(self.cost.epoch(self.work), 1e-9)
        return max(1, min(most, int(fit)))

    @property
    def seconds_at_end(self) -> float:
        """From the last step on."""
        return self.cost.fixed(self.work)

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of what comes, in turn."""
        parts = {
            "for features": self.cost.features(self.work, self.views),
            "for training": self.epochs * self.cost.epoch(self.work),
            "to measure the model": self.seconds_at_end,
        }
        return {name: seconds for name, seconds in parts.items() if seconds}

    @property
    def seconds(self) -> float:
        """Of all parts."""
        return sum(self.parts.values())


def fit_into_time(
    datasets: FruitDatasets,
    data_args: DataArguments,
    model_args: ModelArguments,
    args: FruitTrainingArguments,
    *,
    started: float,
) -> Plan:
    """The best plan for `args.time_budget`, counted from `started` (of `time.monotonic`).

    What is set stays: `PLANNED` that differ from their defaults. Raises `InputError` where even the
    quickest plan takes longer.
    """
    labels = datasets["train"].features["label"].names
    work = count_work(datasets, classes=len(labels), processes=args.world_size)
    quickest = float("inf")
    for tried, limits in candidates(data_args, model_args, args, labels):
        prepared = prepare_model(tried, args, labels)
        longest = copy.copy(args)
        longest.num_train_epochs = limits[1]
        views = choose_views(prepared, datasets, data_args, tried, longest)
        cost = measure_cost(replace(prepared, views=views), datasets, data_args, args)
        # all of them plan by what the main process has seen
        cost = on_main_process(lambda cost=cost: cost)
        left = seconds_left(args, started)
        spent = MARGIN * count_seconds(args.time_budget) - left
        if left <= 0:
            raise InputError(
                f"time_budget={args.time_budget}: {format_time(spent)} went into looking at the "
                "photos and trying a few steps alone. Give several times that."
            )
        for count in _numbers(*limits):
            kept = views if tried.cache_features else min(views, math.ceil(count))
            chosen = replace(tried, cache_features=f"views:{kept}" if kept else "none")
            plan = Plan(chosen, count, limits, kept, cost, work)
            if plan.seconds <= left:
                return plan
        quickest = min(quickest, plan.seconds + spent)
        del prepared
        gc.collect()
    raise InputError(
        f"time_budget={args.time_budget}: even the quickest plan takes about "
        f"{format_time(quickest / MARGIN)} here. Give more time, or fewer photos."
    )


def seconds_left(args: FruitTrainingArguments, started: float) -> float:
    """Of the time that may be planned; the same for all processes."""
    budget = count_seconds(args.time_budget)
    return on_main_process(lambda: MARGIN * budget - (time.monotonic() - started))


def _numbers(fewest: float, most: float) -> Iterable[float]:
    """From the most down; or the one that was asked for, which needn't be whole."""
    return [most] if fewest == most else range(int(most), int(fewest) - 1, -1)


def candidates(
    data_args: DataArguments,
    model_args: ModelArguments,
    args: FruitTrainingArguments,
    labels: list[str],
) -> list[tuple[ModelArguments, tuple[float, float]]]:
    """The model's arguments, and fewest and most epochs, of those `SETTINGS` that it can have."""
    defaults = ModelArguments()
    prepared = prepare_model(model_args, args, labels)
    size = max(input_size(prepared.processor))
    sizes_open = model_args.image_size is None and model_args.train_image_size is None
    resizable = is_resizable(prepared.model) and sizes_open
    freezable = prepared.plan == model_args.freeze == defaults.freeze
    wanted = args.num_train_epochs
    found: dict[tuple, tuple[ModelArguments, tuple[float, float]]] = {}
    for setting in SETTINGS:
        tried: ModelArguments = model_args
        if resizable and setting.size != 1:
            tried = replace(tried, image_size=round(setting.size * size / 32) * 32)
        if freezable:
            tried = replace(tried, freeze=setting.freeze)
        own = wanted != type(args).num_train_epochs
        limits = (wanted, wanted) if own else setting.epochs
        try:
            check_conflicts(data_args, tried, args)
        except InputError:  # what was asked for doesn't go with it
            continue
        key = (tried.image_size, tried.freeze)
        _, others = found.get(key, (tried, limits))
        found[key] = tried, (min(others[0], limits[0]), max(others[1], limits[1]))
    return list(found.values())


def count_work(datasets: FruitDatasets, *, classes: int, processes: int) -> Work:
    """How many pictures will be trained on, validated and answered, by each process."""
    train, validation = len(datasets["train"]), len(datasets["validation"])
    measured = validation + len(datasets.get("test", ()))
    # the main process calibrates alone
    alone = min(validation, HELD_OUT) + min(train, PROTOTYPE_PICTURES * classes, HELD_OUT)
    machines = processes / int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return Work(train / processes, validation / processes, measured / processes + alone, machines)


def measure_cost(
    prepared: PreparedModel,
    datasets: FruitDatasets,
    data_args: DataArguments,
    args: FruitTrainingArguments,
    *,
    photos: int = 16,
) -> Cost:
    """Seconds that a picture takes, tried on a few; no weight of the model changes."""
    use_own_cores(args.device)
    on_cpu, workers = args.device.type == "cpu", args.dataloader_num_workers
    model, size = prepared.model.to(args.device), prepared.train_size
    batch = args.per_device_train_batch_size
    batch = min(batch, 16) if on_cpu else batch
    seconds = step_seconds(
        model,
        size,
        batch_size=batch,
        forward=trial_forward(prepared, size),
        precisions=(False, True) if args.try_bf16 else (args.bf16,),
    )
    bf16 = is_faster(seconds) if args.try_bf16 else args.bf16
    step = STEP_MORE * seconds[bf16] / batch

    rows = datasets["train"].shuffle(seed=args.seed)
    rows = rows.select(range(min(photos, len(rows))))
    options = {"seed": args.seed, "max_pixels": data_args.max_image_pixels}
    transform = prepared.train_transform(data_args.augment)
    pictures = SeededViews(rows, transform, views=min(4, prepared.views) or 1, **options)
    answer = _answering_seconds(prepared, pictures)
    if not prepared.views:
        reading = _seconds(lambda: [pictures[row] for row in range(len(rows))]) / len(rows)
        reading /= max(1, workers)
        # a GPU computes while its workers read
        both = operator.add if on_cpu else max
        return Cost(0.0, 0.0, both(reading, step), both(reading, step / 3), answer)
    cut = find_trunk(model, torch.rand(2, 3, *size, device=args.device))
    decode, view = filling_seconds(model, cut, pictures, workers=workers, bf16=bf16)
    return Cost(decode, view, step, step / 3, answer)


def _answering_seconds(prepared: PreparedModel, pictures: SeededViews) -> float:
    """Of a picture, from its file to the answer of the model as it will be loaded."""
    sources = [source_of(image) for image in pictures.rows["image"]]
    options = {"batch_size": len(sources), "max_pixels": pictures.max_pixels}
    model, was_training = without_lora(prepared.model), prepared.model.training
    fruits = FruitClassifier(model, prepared.processor, device=model.device)
    seconds = _seconds(lambda: list(fruits.answer(sources, **options)))
    prepared.model.train(was_training)
    return seconds / len(sources)


def _seconds(action: Callable[[], object]) -> float:
    """Of the second time: the first one sets things up."""
    action()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def as_planned(
    recorded: dict[str, dict[str, Any]], model_args: ModelArguments, args: FruitTrainingArguments
) -> tuple[ModelArguments, FruitTrainingArguments]:
    """The arguments of a resumed run, with what was planned when it began for what isn't set."""
    if not recorded["training"].get("time_budget"):
        return model_args, args
    args = copy.copy(args)
    for name, value in _unset(args, recorded["training"]).items():
        setattr(args, name, value)
    return replace(model_args, **_unset(model_args, recorded["model"])), args


def _unset(group: Any, recorded: dict[str, Any]) -> dict[str, Any]:
    """Of `PLANNED`, what these arguments leave at its default, as it was recorded."""
    names = [name for name in PLANNED if name in type(group).__dataclass_fields__]
    return {n: recorded[n] for n in names if getattr(group, n) == getattr(type(group), n)}


def describe_plan(plan: Plan, budget: str) -> str:
    """A line that says what is going to be done, and how long it is thought to take."""
    parts = ", ".join(f"{format_time(seconds)} {name}" for name, seconds in plan.parts.items())
    chosen = f"{plan.epochs:g} epochs, freeze={plan.model_args.freeze}"
    if plan.model_args.image_size:
        chosen = f"{plan.model_args.image_size} pixels, {chosen}"
    return f"time_budget={budget}: {chosen}; about {parts}"
