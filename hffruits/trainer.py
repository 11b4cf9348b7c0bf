"""The Trainer with the few hooks that fine-tuning on photos needs. One run is `train.py`."""

import math
from functools import partial
from typing import Any

import torch
from datasets import Dataset, Image
from torch import nn
from transformers import EvalPrediction, Trainer, TrainerControl, TrainerState
from transformers.trainer_callback import ProgressCallback
from transformers.training_args import TrainingArguments

from hffruits.data import decode_images
from hffruits.freezing import hold_frozen_norms
from hffruits.images import MAX_PIXELS
from hffruits.metrics import classification_metrics
from hffruits.optim import decayed_parameters
from hffruits.transforms import Transform


class FruitTrainer(Trainer):
    """transformers' `Trainer` for datasets made by `as_tensors`."""

    def __init__(self, **kwargs: Any):
        super().__init__(
            data_collator=collate, compute_metrics=self.compute_fruit_metrics, **kwargs
        )
        if not self.args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(EpochTable)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any):
        hold_frozen_norms(model)  # the Trainer has just called `model.train()`
        return super().compute_loss(model, inputs, *args, **kwargs)

    def compute_fruit_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """`METRIC_NAMES`, and `steady_accuracy`, which chooses the best epoch by default.

        It adds to the accuracy up to two standard errors, in step with training: of epochs that
        the validation set can't tell apart (at 95 %), the later one is kept, for the learning rate
        has fallen since. After the one-standard-error rule (Breiman et al., 1984, section 3.4.3).
        """
        metrics = classification_metrics(prediction.predictions, prediction.label_ids)
        accuracy, images = metrics["accuracy"], len(prediction.label_ids)
        error = math.sqrt(accuracy * (1 - accuracy) / images)
        done = self.state.global_step / max(1, self.state.max_steps)
        return metrics | {"steady_accuracy": accuracy + 2 * error * done}

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return decayed_parameters(model)


def as_tensors(dataset: Dataset, transform: Transform, *, max_pixels: int = MAX_PIXELS) -> Dataset:
    """The dataset with rows `pixel_values` (3, H, W) and `labels`, made when they are asked for."""
    dataset = dataset.cast_column("image", Image(decode=False))
    # a partial and no closure, so that data-loader workers can be spawned with it
    return dataset.with_transform(partial(_convert, transform=transform, max_pixels=max_pixels))


def _convert(batch: dict[str, list], *, transform: Transform, max_pixels: int) -> dict[str, list]:
    images = decode_images(batch, max_pixels=max_pixels)["image"]
    return {"pixel_values": [transform(image) for image in images], "labels": batch["label"]}


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows -> `pixel_values` (B, 3, H, W) and `labels` (B,)."""
    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


class EpochTable(ProgressCallback):
    """The progress bar, with the loss in it, and one line an epoch instead of printed dicts."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description("Training")
            self.training_bar.unit = "step"
            self.training_bar.write("epoch  train loss  val loss  val accuracy  val macro-F1")

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        if self.training_bar is None:  # validation within training is short, and has its line
            super().on_prediction_step(args, state, control, eval_dataloader, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ):
        if self.training_bar is None or not state.is_world_process_zero:
            return
        if "loss" in logs:
            self.training_bar.set_postfix_str(f"loss {logs['loss']:.3f}")
        if "eval_loss" in logs:
            losses = [row["loss"] for row in state.log_history if "loss" in row]
            last = f"{losses[-1]:10.3f}" if losses else " " * 10
            self.training_bar.write(
                f"{logs['epoch']:5.4g}  {last}  {logs['eval_loss']:8.3f}  "
                f"{logs['eval_accuracy']:12.1%}  {logs['eval_macro_f1']:12.1%}"
            )
