"""Training from Python: `hffruits.train("fruits", recipe="fast")`, and what it returns."""

from functools import cached_property
from pathlib import Path
from typing import Any

from hffruits.core.counts import counted
from hffruits.core.results import Result
from hffruits.data.arguments import DataArguments
from hffruits.evaluation.results import format_accuracy
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.artifact import REPORT
from hffruits.training.parser import arguments_from_keywords
from hffruits.training.run import train as run_training


class FinishedRun(Result):
    """A trained model's folder and its metrics; `report` is the evaluation as a page."""

    PAGE = REPORT

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds: shares in [0, 1], times in seconds.

        Each split's metrics are under its name, with 95 % intervals.
        """
        return self.record

    @cached_property
    def classifier(self) -> FruitClassifier:
        """The model, calibrated, on the best device at hand."""
        return FruitClassifier.from_pretrained(self.folder)

    @property
    def summary(self) -> str:
        split = "test" if "test" in self.record else "validation"
        figures = self.record[split]
        return f"{split} {format_accuracy(figures)}, {counted(figures['images'], 'image')}"


def train(data: DataArguments | str | Path | None = None, **flags: Any) -> FinishedRun:
    """Fine-tune a model on fruit photos; any flag of `hffruits train` is a keyword.

    Args:
        data: as for `load_fruits`: a folder of class folders, an archive, a table, shards, a Hub
            id, or a ready `DataArguments`; None for the sample set.
        **flags: `output_dir`, `recipe`, `config`, `num_train_epochs`, `learning_rate`, ...: see
            `hffruits train --help`, and transformers' `TrainingArguments`.

    Returns:
        A `FinishedRun`: `metrics`, `classifier`, `report`, `folder`.

    Raises:
        InputError: for an unknown flag, with those like it, and for anything wrong with the
            values or the data, before training starts.

    >>> import hffruits
    >>> run = hffruits.train("fruits", output_dir="runs/new", recipe="fast", num_train_epochs=1)
    epoch  train loss  val loss  val accuracy  val macro-F1
        1 ...
    >>> run
    FinishedRun(runs/new: test accuracy ...% (...% to ...%), 20 images)
    >>> 0 <= run.metrics["test"]["macro_f1"] <= 1
    True
    >>> run.classifier.predict("photo.jpg").label in run.classifier.labels
    True
    """
    metrics = run_training(*arguments_from_keywords(data, **flags))
    return FinishedRun(Path(metrics["output_dir"]), metrics)
