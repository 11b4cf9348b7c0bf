"""Planner of `--time_budget`: the best settings that fit into a time.

Settings are considered from the most accurate down, by what they gave on real photos. What each
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
from hffruits.core.durations import format_duration, parse_duration
from hffruits.core.errors import InputError
from hffruits.data.load import FruitData
from hffruits.evaluation.calibration import HELD_OUT
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.ood import IMAGES_PER_CLASS as PROTOTYPE_IMAGES
from hffruits.models.bundled import is_installed
from hffruits.models.frozen_trunk import find_trunk
from hffruits.models.lora import without_lora
from hffruits.models.resizing import is_resizable
from hffruits.training.argument_checks import check_conflicts
from hffruits.training.arguments import Arguments, FruitTrainingArguments, ModelArguments
from hffruits.training.cost_estimate import Cost, Plan, Work
from hffruits.training.feature_cache.cache import choose_views
from hffruits.training.feature_cache.compute import SeededViews, filling_seconds
from hffruits.training.precision import is_faster, step_seconds
from hffruits.training.run_state import PreparedModel, TrainingRun
from hffruits.training.setup import prepare_model, trial_forward

# unless they are set
PLANNED = ("model_name_or_path", "image_size", "train_image_size", "freeze", "num_train_epochs")
MARGIN = 0.9  # of the time may be planned: machines have other things to do
STEP_MORE = 1.25  # a step against its forward and backward pass: optimizer, average, reading
HOPELESS = 2.0  # times what is left: more than the quickest ways to compute can make good
SPED_UP = 0.6  # of a step's time when it was tried: the machine was busy then


@dataclass(frozen=True)
class Setting:
    """Arguments that may be planned; `size` is a share of the backbone's own."""

    backbone: str
    size: float
    freeze: str
    epochs: tuple[int, int]  # with fewer the next setting is better; more gain nothing


# The most accurate first: benchmarks/README.md, "Within a time".
SETTINGS = (
    Setting("efficientnet_lite2", 1.0, "half", (12, 18)),
    Setting("efficientnet_lite0", 1.0, "half", (12, 16)),
    Setting("efficientnet_lite0", 1.0, "three_quarters", (6, 16)),
    Setting("efficientnet_lite0", 0.857, "three_quarters", (5, 10)),
    Setting("efficientnet_lite0", 0.714, "three_quarters", (3, 10)),
    Setting("efficientnet_lite0", 0.714, "head_only", (1, 10)),
)


def fit_into_time(run: TrainingRun, *, better_than: Plan | None = None) -> Plan | None:
    """The best plan for the run's time budget, counted from its start.

    With `better_than`, None unless a setting fits that comes before that plan's.

    What is set stays: `PLANNED` that differ from their defaults. Raises `InputError` where even the
    fastest plan takes longer.
    """
    budget = run.args.time_budget
    work = count_work(run.datasets, classes=len(run.labels), processes=run.args.world_size)
    fastest = float("inf")
    options = candidates(run.arguments, run.labels)
    for model_args, limits in options:
        if better_than and _same_setting(model_args, better_than.model_args):
            return None
        tried = replace(run, model_args=model_args)
        tried.prepared = prepare_model(
            model_args, run.args, run.labels, augment=run.data_args.augment
        )
        is_last = model_args is options[-1][0]
        if not is_last and limits[0] * _least_seconds(tried) > HOPELESS * seconds_left(run):
            continue  # it isn't worth the time to try all of it
        views, cost = _try(tried, most_epochs=limits[1])
        left = seconds_left(run)
        spent = MARGIN * parse_duration(budget, name="time_budget") - left
        if left <= 0 and better_than:
            return None
        if left <= 0:
            raise InputError(
                f"time_budget={budget}: {format_duration(spent)} went into reading the photos and "
                "trying a few steps. Give several times that."
            )
        for epochs in _numbers(*limits):
            is_open = model_args.feature_cache_views is None
            cached = min(views, math.ceil(epochs)) if is_open else views
            chosen = replace(model_args, feature_cache_views=cached)
            plan = Plan(chosen, epochs, limits, cached, cost, work)
            if plan.seconds <= left:
                return plan
        fastest = min(fastest, plan.seconds + spent)
        gc.collect()
    if better_than:
        return None
    raise InputError(
        f"time_budget={budget}: even the fastest plan takes about "
        f"{format_duration(fastest / MARGIN)} here. Give more time, or fewer photos."
    )


def _same_setting(one: ModelArguments, other: ModelArguments) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in PLANNED[:-1])


def _try(run: TrainingRun, *, most_epochs: float) -> tuple[int, Cost]:
    """The views that would be cached of a candidate, and what it costs."""
    longest = copy.copy(run.args)
    longest.num_train_epochs = most_epochs
    views = choose_views(replace(run, args=longest))
    run.prepared = replace(run.prepared, views=views)
    cost = measure_cost(run)
    return views, on_main_process(lambda: cost)  # all plan by what the main process has seen


def _least_seconds(run: TrainingRun, *, images: int = 8) -> float:
    """What an epoch takes at least, features included, by the model's pass over a few images."""
    args, size = run.args, run.prepared.train_size
    use_own_cores(args.device)
    model = run.prepared.model.to(args.device)
    was_training = model.training
    pixels = torch.zeros(images, 3, *size, device=args.device)
    found = float("inf")
    model.eval()
    for bf16 in 2 * ((False, True) if args.try_bf16 else (args.bf16,)):
        started = time.perf_counter()
        with torch.no_grad(), torch.autocast(args.device.type, torch.bfloat16, enabled=bf16):
            model(pixel_values=pixels).logits.sum().item()
        found = min(found, time.perf_counter() - started)
    model.train(was_training)
    photos = len(run.datasets["train"]) / args.world_size
    return on_main_process(lambda: photos * found / images)


def seconds_left(run: TrainingRun) -> float:
    """Of the time that may be planned; the same for all processes."""
    budget = parse_duration(run.args.time_budget, name="time_budget")
    return on_main_process(lambda: MARGIN * budget - (time.monotonic() - run.started))


def _numbers(fewest: float, most: float) -> Iterable[float]:
    """From the most down; or the one that was asked for, which needn't be whole."""
    return [most] if fewest == most else range(int(most), int(fewest) - 1, -1)


def candidates(
    arguments: Arguments, labels: list[str]
) -> list[tuple[ModelArguments, tuple[float, float]]]:
    """The model's arguments, and fewest and most epochs, of those `SETTINGS` that it can have."""
    data_args, model_args, args = arguments
    name_is_open = model_args.model_name_or_path == ModelArguments.model_name_or_path
    wanted, own = args.num_train_epochs, args.num_train_epochs != type(args).num_train_epochs
    found: dict[tuple, tuple[ModelArguments, tuple[float, float]]] = {}
    prepared: dict[str, PreparedModel] = {}
    for setting in SETTINGS:
        named = model_args
        if name_is_open and model_args.pretrained:
            if not is_installed(setting.backbone):
                continue
            named = replace(model_args, model_name_or_path=setting.backbone)
        name = named.model_name_or_path
        if name not in prepared:
            prepared = {name: prepare_model(named, args, labels, augment=data_args.augment)}
        tried = _with_setting(named, setting, prepared[name], augment=data_args.augment)
        try:
            check_conflicts(data_args, tried, args)
        except InputError:  # what was asked for doesn't go with it
            continue
        key = (name, tried.image_size, tried.train_image_size, tried.freeze)
        limits = (wanted, wanted) if own else setting.epochs
        _, others = found.get(key, (tried, limits))
        found[key] = tried, (min(others[0], limits[0]), max(others[1], limits[1]))
    return list(found.values())


def _with_setting(
    model_args: ModelArguments, setting: Setting, prepared: PreparedModel, *, augment: str
) -> ModelArguments:
    """The size and freezing of a setting, where they are open and the model can have them."""
    tried = model_args
    sizes_open = model_args.image_size is None and model_args.train_image_size is None
    if setting.size != 1 and sizes_open and is_resizable(prepared.model):
        name = "image_size" if augment == "none" else "train_image_size"
        pixels = round(setting.size * max(prepared.train_size) / 32) * 32
        tried = replace(tried, **{name: pixels})
    if prepared.plan == model_args.freeze == ModelArguments.freeze:
        tried = replace(tried, freeze=setting.freeze)
    return tried


def count_work(datasets: FruitData, *, classes: int, processes: int) -> Work:
    """How many images will be trained on, validated and classified, by each process."""
    train, validation = len(datasets["train"]), len(datasets["validation"])
    measured = validation + len(datasets.get("test", ()))
    # only the main process calibrates
    calibrated = min(validation, HELD_OUT) + min(train, PROTOTYPE_IMAGES * classes, HELD_OUT)
    machines = processes / int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return Work(
        train / processes, validation / processes, measured / processes + calibrated, machines
    )


def measure_again(run: TrainingRun) -> Plan:
    """The plan with what a step costs by now: the machine may have been busy when it was tried."""
    if not run.prepared.views:  # a step reads photos as well, which isn't tried again
        return run.plan
    use_own_cores(run.args.device)
    step = _step_cost(run, precisions=(run.args.bf16,))
    cost = replace(run.plan.cost, step=step, check=step / 3)
    return replace(run.plan, cost=on_main_process(lambda: cost))


def has_sped_up(run: TrainingRun, now: Plan) -> bool:
    """Whether a plan made now would have much more time than the run's own thought."""
    return now.cost.step < SPED_UP * run.plan.cost.step


def _step_cost(run: TrainingRun, *, precisions: tuple[bool, ...]) -> float:
    """Seconds that training on an image takes, in the precision that it will have."""
    prepared, args = run.prepared, run.args
    batch = args.per_device_train_batch_size
    batch = min(batch, 16) if args.device.type == "cpu" else batch
    model, size = prepared.model.to(args.device), prepared.train_size
    forward = trial_forward(prepared, size, augment=run.data_args.augment)
    options = {"batch_size": batch, "forward": forward, "precisions": precisions}
    seconds = step_seconds(model, size, **options)
    bf16 = is_faster(seconds) if len(seconds) > 1 else precisions[0]
    return STEP_MORE * seconds[bf16] / batch


def measure_cost(run: TrainingRun, *, photos: int = 16) -> Cost:
    """Seconds that an image takes, tried on a few; no weight of the model changes."""
    prepared, args = run.prepared, run.args
    use_own_cores(args.device)
    on_cpu, workers = args.device.type == "cpu", args.dataloader_num_workers
    model, size = prepared.model.to(args.device), prepared.train_size
    tried = (False, True) if args.try_bf16 else (args.bf16,)
    step = _step_cost(run, precisions=tried)

    rows = run.datasets.split("train").shuffled(photos, seed=args.seed)
    options = {"seed": args.seed, "max_pixels": run.data_args.max_image_pixels}
    transform = prepared.train_transform(run.data_args.augment)
    images = SeededViews(rows, transform, views=min(4, prepared.views) or 1, **options)
    inference = _inference_seconds(prepared, images)
    if not prepared.views:
        reading = _seconds(lambda: [images[row] for row in range(len(rows))]) / len(rows)
        reading /= max(1, workers)
        # a GPU computes while its workers read
        both = operator.add if on_cpu else max
        return Cost(0.0, 0.0, both(reading, step), both(reading, step / 3), inference)
    trunk = find_trunk(model, torch.rand(2, 3, *size, device=args.device))
    filling = [filling_seconds(model, trunk, images, workers=workers, bf16=it) for it in tried]
    decode, view = min(filling, key=sum)
    return Cost(decode, view, step, step / 3, inference)


def _inference_seconds(prepared: PreparedModel, images: SeededViews) -> float:
    """Of an image, from its file to the prediction of the model as it will be loaded."""
    sources = [sample.source for sample in images.split.samples()]
    options = {"batch_size": len(sources), "max_pixels": images.max_pixels}
    model, was_training = without_lora(prepared.model), prepared.model.training
    fruits = FruitClassifier(model, prepared.processor, device=model.device)
    seconds = _seconds(lambda: list(fruits.infer(sources, **options)))
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
