"""Setup of a run: photos loaded, model built and frozen, open arguments resolved, trainer made."""

import logging
from typing import Any

import torch
from transformers import PreTrainedModel

from hffruits.core.distributed import on_main_process, use_own_cores
from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.load import FruitData, load_fruits
from hffruits.data.transforms import EvalTransform, Scaling, input_size, scaling_of
from hffruits.models.batch_norm import batch_norms, hold_statistics, set_policy
from hffruits.models.cpu_convolutions import speed_up_convolutions
from hffruits.models.freezing import CHANGING, UnfreezingCallback, freeze_backbone
from hffruits.models.frozen_trunk import find_trunk
from hffruits.models.heads import head_names
from hffruits.models.layers import has_layer_groups, layer_groups, use_channels_last
from hffruits.models.loading import build_model, check_classifies, keeps_head
from hffruits.models.lora import add_lora
from hffruits.models.resizing import (
    is_resizable,
    resize_input,
    takes_any_size,
    test_size,
)
from hffruits.training.argument_checks import check_photos
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments, with_precision
from hffruits.training.datasets import as_tensors
from hffruits.training.feature_cache.augment import augments_maps, mean_size
from hffruits.training.linear_probe import can_probe
from hffruits.training.optimizers import default_learning_rate
from hffruits.training.precision import Forward, bf16_is_faster
from hffruits.training.run_dir import RunDir
from hffruits.training.run_state import KEPT, PROBE, RANDOM, PreparedModel, TrainingRun
from hffruits.training.schedule_functions import BY_VALIDATION
from hffruits.training.trainer import FruitTrainer

logger = logging.getLogger(__name__)


def load_datasets(data_args: DataArguments, run: RunDir | None, seed: int) -> FruitData:
    """Check and split the photos; a resumed run keeps the split that it began with."""
    if not (data_args.data_dir or data_args.dataset_name):
        logger.info("no data given: using the sample set")
    lists = data_args.split_lists or (run and run.lists_to_repeat)
    return load_fruits(data_args, split_lists=lists and str(lists), seed=seed)


def prepare_model(
    model_args: ModelArguments,
    args: FruitTrainingArguments,
    labels: list[str],
    *,
    augment: str = "light",
    coarse: dict[str, str] | None = None,
) -> PreparedModel:
    """The backbone with a new head, frozen, normalised and adapted as the arguments say.

    `coarse` (class -> coarse label) goes into its config, and so into the artifact.
    """
    backbone = {
        "name_or_path": model_args.model_name_or_path, "revision": model_args.model_revision
    }  # fmt: skip
    model, processor = build_model(**backbone, labels=labels, pretrained=model_args.pretrained)
    if coarse:
        model.config.coarse_labels = coarse
    own = input_size(processor)
    size, train_size = choose_sizes(model_args, model, own, augment=augment)
    if size:
        processor = resize_input(model, size)
    try:
        check_classifies(model, input_size(processor), name=model_args.model_name_or_path)
    except InputError:
        if not size or model_args.image_size or model_args.train_image_size:
            raise
        processor, train_size = resize_input(model, own[0]), None  # it takes no other
        check_classifies(model, input_size(processor), name=model_args.model_name_or_path)
    if is_resizable(model):
        model.config.train_image_size = train_size or max(input_size(processor))
    start = KEPT if model_args.pretrained and keeps_head(**backbone, labels=labels) else RANDOM
    if start == RANDOM and model_args.pretrained and args.linear_probe and can_probe(model, args):
        start = PROBE
    head = head_names(model)
    plan = choose_freezing(model_args, model)
    freeze_backbone(model, plan, head=head)
    if args.batch_norm not in (None, "train") and not batch_norms(model):
        logger.info("batch_norm=%s: no effect, the model has no batch norm", args.batch_norm)
    policy = args.batch_norm or ("freeze" if model_args.pretrained else "train")
    if args.warmup_steps and args.schedule in ("one_cycle", *BY_VALIDATION):
        logger.info("warmup_steps: no effect, %s has no such warmup", args.schedule)
    if args.batch_norm == "sync" and args.world_size == 1:
        logger.info("batch_norm=sync: one process has nothing to synchronise")
    model, fixed = set_policy(model, policy)
    callbacks = []
    if plan in CHANGING:
        callbacks.append(UnfreezingCallback(plan, layer_groups(model, head=head), keep=set(fixed)))
    if model_args.lora_rank:
        size = input_size(processor)
        model = add_lora(model, model_args.lora_rank, head=head, size=size)
    if args.device.type == "cpu" and not (model_args.lora_rank or args.torch_compile):
        speed_up_convolutions(model, torch.rand(2, 3, *input_size(processor)))
    if args.uses_fsdp:
        check_divisible(model, model_args.model_name_or_path)
    if not args.divides_weights:  # FSDP takes only contiguous weights
        model = use_channels_last(model, args.device)
    return PreparedModel(model, processor, head, plan, policy, train_size, start, callbacks)


def choose_sizes(
    model_args: ModelArguments, model: PreTrainedModel, own: tuple[int, int], *, augment: str
) -> tuple[int | None, int | None]:
    """Pixels that the model will see, and that training sees; None for its `own` (high, wide).

    Unless asked otherwise, a CNN sees `test_size` of what training sees, if that has random crops.
    """
    size, train_size = model_args.image_size, model_args.train_image_size
    if train_size and not takes_any_size(model):
        raise InputError(
            f"train_image_size={train_size}: this model has a fixed size. Leave it out."
        )
    if size or augment == "none" or not is_resizable(model) or len(set(own)) > 1:
        return size, train_size
    trained_at = getattr(model.config, "train_image_size", None)
    if isinstance(trained_at, int) and not train_size:  # one of ours, which keeps its sizes
        return None, trained_at
    train_size = train_size or own[0]
    return test_size(train_size), train_size


def check_divisible(model: PreTrainedModel, name: str) -> None:
    """Raise `InputError` for a net whose weights FSDP, as accelerate does it, can't divide."""
    if batch_norms(model):
        raise InputError(
            f"{name}: has batch norm, which doesn't go with FSDP. Train without FSDP: such models "
            "fit on one GPU."
        )
    try:
        model.get_input_embeddings()
    except NotImplementedError as error:
        raise InputError(
            f"{name}: accelerate can't shard this model's weights. Use one of timm's, as "
            "timm/convnext_base.fb_in22k_ft_in1k."
        ) from error


def choose_freezing(model_args: ModelArguments, model: PreTrainedModel) -> str:
    """The plan asked for, except where the default makes no sense.

    Random weights must all learn, some nets have no known stages, and LoRA freezes by itself.
    """
    by_default = model_args.freeze == ModelArguments.freeze
    sensible = model_args.pretrained and has_layer_groups(model) and not model_args.lora_rank
    return "none" if by_default and not sensible else model_args.freeze


def resolve_arguments(
    args: FruitTrainingArguments, prepared: PreparedModel, *, recorded: dict[str, Any] | None = None
) -> FruitTrainingArguments:
    """The arguments with what depends on the model and the machine filled in.

    `recorded` are the training arguments that a resumed run began with.
    """
    args.batch_norm = prepared.batch_norm
    if args.learning_rate is None:
        random_head = prepared.head_start == RANDOM
        args.learning_rate = default_learning_rate(prepared.model, random_head=random_head)
    if args.world_size > 1 and args.ddp_find_unused_parameters is None:
        args.ddp_find_unused_parameters = prepared.plan in CHANGING or leaves_unused(prepared)
    use_own_cores(args.device)
    if args.try_bf16:
        size = prepared.train_size
        faster = on_main_process(
            lambda: (
                recorded["bf16"]
                if recorded
                else bf16_is_faster(prepared.model, size, forward=trial_forward(prepared, size))
            )
        )
        if faster:
            args = with_precision(args, "bf16")
    return args


def leaves_unused(prepared: PreparedModel) -> bool:
    """Whether a weight that learns gets no gradient: DDP must search for such in each step."""
    model = prepared.model
    was_training = model.training
    pixels = torch.rand(2, 3, *prepared.train_size, device=next(model.parameters()).device)
    model.eval()(pixel_values=pixels).logits.sum().backward()
    unused = any(p.requires_grad and p.grad is None for p in model.parameters())
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return unused


def trial_forward(
    prepared: PreparedModel, size: tuple[int, int], *, augment: str = "light"
) -> Forward:
    """What a training step will do with pixels (B, 3, *size): norms held, features cached."""
    model = prepared.model
    device = next(model.parameters()).device
    trunk, shape = None, ()
    if prepared.views:
        trunk = find_trunk(model, torch.rand(2, 3, *size, device=device))
        shape = mean_size(trunk) if augments_maps(model, trunk, augment) else trunk.shape

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        hold_statistics(model, prepared.batch_norm)
        if trunk is None:
            return model(pixel_values=pixels).logits
        with trunk.skipped(model, pixels.new_zeros((len(pixels), *shape))):
            return model(pixel_values=pixels[:1]).logits

    return forward


def device_scaling(prepared: PreparedModel, augment: str, device: torch.device) -> Scaling | None:
    """What a GPU does to training's pixels, so that its workers needn't; None on a CPU."""
    return None if device.type == "cpu" else scaling_of(prepared.processor, augment)


def make_trainer(run: TrainingRun, **kwargs: Any) -> FruitTrainer:
    """The trainer of a run's prepared model on its training and validation photos."""
    check_photos(run.args, len(run.datasets["train"]))
    prepared, data_args = run.prepared, run.data_args
    scaling = device_scaling(prepared, data_args.augment, run.args.device)
    augmented = prepared.train_transform(data_args.augment, scaled=scaling is None)
    plain, max_pixels = EvalTransform(prepared.processor), data_args.max_image_pixels
    callbacks = [*prepared.callbacks, *kwargs.pop("callbacks", ())]
    model = {} if "model_init" in kwargs else {"model": prepared.model}
    return FruitTrainer(
        **model,
        args=run.args,
        head=prepared.head,
        scaling=scaling,
        train_dataset=as_tensors(run.datasets.split("train"), augmented, max_pixels=max_pixels),
        eval_dataset=as_tensors(run.datasets.split("validation"), plain, max_pixels=max_pixels),
        callbacks=callbacks,
        **kwargs,
    )
