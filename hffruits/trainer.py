"""The Trainer with the few hooks that fine-tuning on photos needs. One run is `train.py`."""

from typing import Any

import torch
from datasets import Dataset, Image
from torch import nn
from transformers import EvalPrediction, Trainer, TrainerControl, TrainerState
from transformers.trainer_callback import ProgressCallback
from transformers.training_args import TrainingArguments

from hffruits.images import open_rgb
from hffruits.metrics import classification_metrics
from hffruits.optim import decayed_parameters
from hffruits.transforms import Transform


class FruitTrainer(Trainer):
    """transformers' `Trainer` for datasets made by `as_tensors`."""

    def __init__(self, **kwargs: Any):
        super().__init__(data_collator=collate, compute_metrics=compute_metrics, **kwargs)
        if not self.args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(EpochTable)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return decayed_parameters(model)


def as_tensors(dataset: Dataset, transform: Transform) -> Dataset:
    """The dataset with rows `pixel_values` (3, H, W) and `labels`, made when they are asked for."""

    def convert(batch: dict[str, list]) -> dict[str, list]:
        images = (open_rgb(image["bytes"] or image["path"]) for image in batch["image"])
        return {"pixel_values": [transform(image) for image in images], "labels": batch["label"]}

    return dataset.cast_column("image", Image(decode=False)).with_transform(convert)


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows -> `pixel_values` (B, 3, H, W) and `labels` (B,)."""
    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """The Trainer's hook over `classification_metrics`."""
    return classification_metrics(prediction.predictions, prediction.label_ids)


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
