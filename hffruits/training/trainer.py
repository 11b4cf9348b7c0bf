"""transformers' Trainer with the hooks that fine-tuning on photos needs. `run.py` uses it."""

import copy
import math
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import TrainerCallback

from hffruits.core.errors import InputError, short_reason
from hffruits.core.files import write_json
from hffruits.core.progress import progress_bar
from hffruits.data.transforms import Scaling
from hffruits.evaluation.metrics import classification_metrics, rank_classes
from hffruits.models.artifact import DIVERGED
from hffruits.models.batch_norm import hold_statistics, share_statistics
from hffruits.models.frozen_trunk import FrozenTrunk
from hffruits.models.heads import coarse_ids, head_inputs
from hffruits.models.lora import without_lora
from hffruits.training.arguments import FruitTrainingArguments
from hffruits.training.callbacks.divergence import BEFORE_SAVING, IN_A_ROW, DivergenceCallback
from hffruits.training.callbacks.ema import EMACallback
from hffruits.training.callbacks.gradient_clipping import GradientClippingCallback
from hffruits.training.callbacks.progress import EpochTableCallback, LogEachEpochCallback
from hffruits.training.checkpointing import CheckpointingTrainer, checkpoints, step_of
from hffruits.training.datasets import Epochs, Tensors, collate
from hffruits.training.feature_cache.augment import MapAugmentation
from hffruits.training.feature_cache.store import FeatureRows
from hffruits.training.losses import ClassificationLoss, class_weights
from hffruits.training.lr_schedules import BY_VALIDATION, learning_rates, make_scheduler
from hffruits.training.optimizers import (
    TIMM,
    decayed_parameters,
    layer_scales,
    parse_options,
    split_groups,
    timm_optimizer,
)


class FruitTrainer(CheckpointingTrainer):
    """transformers' `Trainer` for datasets made by `as_tensors`.

    `head` holds the names of the classifying layers; `scaling` is done to pixels that are bytes.
    Training that diverges is an `InputError`, unless it is only tried (`stop_if_diverged`).
    """

    args: FruitTrainingArguments

    def __init__(
        self,
        *,
        args: FruitTrainingArguments,
        head: tuple[str, ...] = (),
        scaling: Scaling | None = None,
        stop_if_diverged: bool = True,
        train_dataset: Tensors | None = None,
        callbacks: Iterable[TrainerCallback] = (),
        **kwargs: Any,
    ):
        args = copy.copy(args)
        limit = args.clip_limit
        if args.learning_rate is not None:
            args.learning_rate *= args.learning_rate_factor
        args.label_names = ["labels"]  # which nets with a teacher don't take, but the loss does
        if args.clip_mode != "norm":
            args.max_grad_norm = 0.0  # the Trainer's own clipping
        self.head, self.scaling, self.stop_if_diverged = head, scaling, stop_if_diverged
        self.trunk: FrozenTrunk | None = None
        self.augment_maps: MapAugmentation | None = None
        self.clipping = GradientClippingCallback(args.clip_mode, limit, head=head)
        self.averaged = EMACallback(args.ema_decay) if args.ema_decay else None
        callbacks = [*callbacks, self.clipping]
        if self.averaged:
            callbacks.append(self.averaged)
        if args.early_stopping_patience:
            callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        self.class_weights: torch.Tensor | None = None
        if train_dataset is not None:
            split = train_dataset.split
            classes = len(split.names)
            self.mix = make_mix(args.mixup_alpha, args.cutmix_alpha, classes)
            self.divergence = DivergenceCallback(
                classes=classes, max_skipped=args.max_skipped_steps, scaled=args.fp16
            )
            callbacks.append(self.divergence)
            self.class_weights = class_weights(split.label_counts, args.class_weights)
            self.epochs = train_dataset.in_epochs(args)
            args.dataloader_drop_last = False  # else the Trainer's validation would drop some too
            callbacks.append(_BeginEpochCallback(self.epochs))
            train_dataset = self.epochs.rows
        super().__init__(
            args=args,
            train_dataset=train_dataset,
            callbacks=callbacks,
            data_collator=collate,
            compute_metrics=self.compute_fruit_metrics,
            preprocess_logits_for_metrics=keep_ranks_and_losses,
            **kwargs,
        )
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(self.args.device)
        self.model_accepts_loss_kwargs = False  # our loss is a mean over the batch
        if not self.args.disable_tqdm:
            self.remove_callback(DEFAULT_PROGRESS_CALLBACK)  # another one in notebooks
            self.add_callback(EpochTableCallback)
        self.add_callback(LogEachEpochCallback)

    # ---- rows ----

    def get_train_dataloader(self) -> DataLoader:
        return self.epochs.loader(self.train_dataset)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        return rows.evaluation_loader(self.args, super().get_eval_dataloader)

    # ---- cached features ----

    def use_features(
        self,
        trunk: FrozenTrunk,
        train: FeatureRows,
        validation: FeatureRows,
        augment: MapAugmentation | None = None,
    ) -> None:
        """Train and validate on cached activations from now on, in place of the images."""
        self.trunk, self.train_dataset, self.eval_dataset = trunk, train, validation
        self.augment_maps = augment
        self.args.dataloader_num_workers = 0  # there is nothing to prepare, and it can't be pickled
        self.args.dataloader_persistent_workers = False
        self.args.dataloader_prefetch_factor = self.args.dataloader_multiprocessing_context = None

    def _forward(self, model: nn.Module, inputs: dict[str, torch.Tensor]):
        if "activations" not in inputs:
            return model(pixel_values=inputs["pixel_values"])
        net = self.accelerator.unwrap_model(model)
        activations = inputs["activations"].to(net.dtype)
        with self.trunk.skipped(net, activations):
            outputs = model(pixel_values=activations.new_zeros((1, 3, *self.trunk.image_size)))
        assert len(outputs.logits) == len(activations), "the model bypassed the frozen trunk"
        return outputs

    @torch.no_grad()
    def head_features(self, count: int) -> tuple[list[torch.Tensor | None], torch.Tensor]:
        """What the model's `last_layers` are given for about `count` training images, (N, D) each.

        None for a layer that isn't called in evaluation. Also the labels (N,). The images are those
        that the first epochs show; nothing is learned.
        """
        model, labels = self.model.to(self.args.device), []
        was_training = model.training
        batches = self.epochs.drawn(self.train_dataset, count)
        bar = progress_bar(batches, desc="Head", disable=self.args.disable_tqdm, leave=False)
        with head_inputs(without_lora(model.eval())) as seen:
            for batch in bar:
                with self.accelerator.autocast():
                    self._forward(model, self._prepare_inputs(batch))
                labels.append(batch["labels"].to(self.args.device))
        model.train(was_training)
        found = [torch.cat(inputs) if inputs else None for inputs in seen]
        return found, torch.cat(labels)

    # ---- one step ----

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        pixels = inputs.get("pixel_values")
        if self.scaling and pixels is not None and not pixels.is_floating_point():
            inputs["pixel_values"] = self._prepare_input(self.scaling(pixels))  # DeepSpeed's dtype
        return inputs

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        **kwargs: Any,
    ):
        """The training loss on mixed images, or in validation plain cross-entropy."""
        labels = inputs["labels"]
        loss = ClassificationLoss()
        if model.training:
            hold_statistics(model, self.args.batch_norm)  # the Trainer has just called `train()`
            loss = ClassificationLoss(
                self.args.label_smoothing_factor, self.class_weights, self.args.focal_gamma
            )
            if self.augment_maps:
                maps = self.augment_maps(inputs["activations"], self.state.global_step)
                inputs = inputs | {"activations": maps}
            if self.mix and torch.rand(()) < self.args.mix_probability:
                mixed, labels = self.mix(inputs["pixel_values"], labels)  # ..., (B,) -> (B, K)
                inputs = inputs | {"pixel_values": mixed}
        outputs = self._forward(model, inputs)
        value = loss(outputs.logits, labels)
        if model.training:
            self.divergence.add_loss(value)
            value = value * inputs.get("share", 1.0)
        # of all that a net may return (logits of two heads, hidden states), for the metrics
        return (value, {"logits": outputs.logits}) if return_outputs else value

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | None = None):
        norm = super()._get_grad_norm(model, grad_norm)
        self.clipping.norm = self.divergence.norm = norm
        return norm

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "grad_norm" in logs:
            logs["clipped_steps"] = self.clipping.share_since_last()
        super().log(logs, *args, **kwargs)
        if "train_loss" in logs:  # the last one, of all training
            self._stop_if_diverged(in_a_row=BEFORE_SAVING)
        elif "loss" in logs:
            self._stop_if_diverged()
        if self.stop_if_diverged and not math.isfinite(logs.get("eval_loss", 0.0)):
            raise InputError(
                f"training has diverged: the validation loss is {logs['eval_loss']} at step "
                f"{self.state.global_step}. Start again with a lower learning_rate or "
                "max_grad_norm."
            )

    # ---- optimizer and schedule ----

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return decayed_parameters(model)

    @staticmethod
    def get_optimizer_cls_and_kwargs(
        args: FruitTrainingArguments, model: nn.Module | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if not args.optim.startswith(TIMM):
            return Trainer.get_optimizer_cls_and_kwargs(args, model)
        return timm_optimizer(
            args.optim,
            lr=args.learning_rate,
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
            options=parse_options(args.optim_args),
        )

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if fresh and self.args.layer_decay < 1:
            net = self.model if model is None else model
            split_groups(optimizer, net, layer_scales(net, self.args.layer_decay, head=self.head))
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        if self.lr_scheduler is None:
            self.lr_scheduler = make_scheduler(
                optimizer or self.optimizer,
                self.args.schedule,
                total=num_training_steps,
                warmup=self.args.get_warmup_steps(num_training_steps),
                options=self.args.lr_scheduler_kwargs,
                maximise=bool(self.args.greater_is_better),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def try_optimizer(self) -> None:
        """Make optimizer and schedule once, to see whether they can be made.

        Raises `InputError` for options that they lack, and for what is not installed.
        """
        try:
            self.create_optimizer()
        except (TypeError, ValueError, ImportError, RuntimeError) as error:
            asked = f"optim={self.args.optimizer}, optim_args={self.args.optim_args}"
            remedy = "Install it, or use adamw_torch, sgd, or timm:NAME."
            raise InputError(f"{asked}: can't be made ({short_reason(error)}). {remedy}") from error
        finally:
            self.optimizer = None
        if self.args.schedule not in BY_VALIDATION:
            options = self.args.lr_scheduler_kwargs
            peak = self.args.learning_rate
            learning_rates(self.args.schedule, peak=peak, total=20, warmup=2, options=options)

    # ---- divergence ----

    def _stop_if_diverged(self, *, in_a_row: int = IN_A_ROW) -> None:
        """Raise `InputError` where a step since the last check shows it; a file has the details."""
        bad = self.divergence.find(in_a_row=in_a_row)
        if bad is None or not self.stop_if_diverged:
            return
        file, photos = Path(self.args.output_dir) / DIVERGED, self._photos_of(bad.number)
        if self.args.should_save:
            record = {"step": bad.number, "learning_rate": bad.learning_rate, "photos": photos}
            record |= {"loss": str(bad.loss), "gradient_norm": str(bad.gradient_norm)}  # maybe nan
            write_json(file, record)
        saved = [path for path in checkpoints(file.parent) if step_of(path) < bad.number]
        before = f" ({saved[-1].name} is from before it)" if saved else ""
        named = f"; photos {', '.join(photos[:3])}, ..." if photos else ""
        skip = f"To skip single steps, resume with max_skipped_steps{before}; else start"
        start = "Start" if bad.is_finite else skip
        raise InputError(
            f"training has diverged: {bad}{named}; all in {file}. {start} again with a lower "
            "learning_rate or max_grad_norm."
        )

    def _photos_of(self, step: int) -> list[str]:
        """The photos of a step's batches, of all processes; of a stream, none."""
        parts = self.args.gradient_accumulation_steps
        epoch, number = divmod(step - 1, math.ceil(len(self.epochs) / parts))
        return self.epochs.paths(epoch, slice(number * parts, (number + 1) * parts))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._stop_if_diverged(in_a_row=BEFORE_SAVING)
        super()._save_checkpoint(model, trial)

    # ---- averaged weights ----

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any):
        if self.averaged:
            self.averaged.checkpoint = resume_from_checkpoint
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with self.averaged.in_place(self.model) if self.averaged else nullcontext():
            share_statistics(self.model)  # the main process's are what is saved
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        if self.averaged and self.averaged.average is not None and self.args.should_save:
            self.averaged.save(Path(output_dir or self.args.output_dir))

    # ---- validation ----

    def compute_fruit_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """`METRIC_NAMES`, `loss`, and `accuracy_2se`, which chooses the best epoch by default.

        The Trainer's own loss, whose place this one takes, counts rows twice that fill the last
        batch of several processes. `accuracy_2se` adds to the accuracy up to two standard
        errors, in step with training: of epochs that don't differ significantly (at 95 %), the
        later one wins, since the learning rate has fallen meanwhile. After the
        one-standard-error rule (Breiman et al., 1984, section 3.4.3).
        """
        coarse = coarse_ids(self.model.config)
        (ranked, losses), labels = prediction.predictions, prediction.label_ids
        metrics = classification_metrics(ranked, labels, coarse=coarse)
        accuracy, images = metrics["accuracy"], len(labels)
        share = (accuracy * images + 1) / (images + 2)  # Laplace: 100 % has an error too
        error = math.sqrt(share * (1 - share) / images)
        done = self.state.global_step / max(1, self.state.max_steps)
        score = accuracy + 2 * error * done
        return metrics | {"loss": float(losses.mean()), "accuracy_2se": score}


class _BeginEpochCallback(TrainerCallback):
    """Says which epoch comes next, and how many batches of it a resumed run has had."""

    def __init__(self, epochs: Epochs):
        self.epochs = epochs

    def on_epoch_begin(self, args, state, control, **kwargs):
        parts = args.gradient_accumulation_steps
        epoch, step = divmod(state.global_step, math.ceil(len(self.epochs) / parts))
        self.epochs.begin(epoch, 0 if args.ignore_data_skip else step * parts)


def keep_ranks_and_losses(
    logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the logits (B, K) of a validation batch: the best classes (B, R), and losses (B,)."""
    losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    return rank_classes(logits), losses


def make_mix(mixup_alpha: float, cutmix_alpha: float, classes: int) -> v2.Transform | None:
    """Mixup (arXiv:1710.09412), CutMix (arXiv:1905.04899), or one of both at random; or neither."""
    kinds: list[v2.Transform] = []
    if mixup_alpha:
        kinds.append(v2.MixUp(alpha=mixup_alpha, num_classes=classes))
    if cutmix_alpha:
        kinds.append(v2.CutMix(alpha=cutmix_alpha, num_classes=classes))
    return v2.RandomChoice(kinds) if kinds else None
