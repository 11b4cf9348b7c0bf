"""Training from Python: `hffruits.train("fruits", recipe="fast")`, and what it returns."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hffruits.inference.classifier import FruitClassifier
from hffruits.models.artifact import REPORT
from hffruits.training.arguments import arguments_from_keywords
from hffruits.training.run import train as run_training


@dataclass(frozen=True)
class FinishedRun:
    """A trained model's folder and its figures.

    `metrics` is what `metrics.json` holds: shares in [0, 1], times in seconds, each split's figures
    under its name, with 95 % intervals.
    """

    folder: Path
    metrics: dict[str, Any]

    @property
    def report(self) -> Path | None:
        """The evaluation as a page, `report.html`; None if it could not be made."""
        file = self.folder / REPORT
        return file if file.is_file() else None

    @cached_property
    def classifier(self) -> FruitClassifier:
        """The model, calibrated, on the best device at hand."""
        return FruitClassifier.from_pretrained(self.folder)


def train(data: str | Path | None = None, **flags: Any) -> FinishedRun:
    """Fine-tune a model on fruit photos; any flag of `hffruits train` is a keyword.

    Args:
        data: a folder of class folders, an archive, a table, shards, or a Hub id; None for the
            sample set.
        **flags: `output_dir`, `recipe`, `config`, `num_train_epochs`, `learning_rate`, ...: see
            `hffruits train --help`, and transformers' `TrainingArguments`.

    Raises:
        InputError: for an unknown flag, with the one that is meant, and for anything wrong with
            the values or the data, before training starts.

    >>> run = hffruits.train("fruits", output_dir="runs/fruits", recipe="fast")
    >>> run.metrics["test"]["accuracy"]
    >>> run.classifier.predict("photo.jpg").label
    """
    metrics = run_training(*arguments_from_keywords(data, **flags))
    return FinishedRun(Path(metrics["output_dir"]), metrics)
