"""Cost estimate of a run: seconds per image on this machine, times the number of images.

Arithmetic only: `budget_planner.py` measures the seconds and chooses among plans.
"""

from dataclasses import dataclass

from hffruits.core.counts import counted
from hffruits.core.durations import format_duration
from hffruits.training.arguments import ModelArguments

OTHER_SECONDS = 8.0  # checkpoints, loading the model, the report


@dataclass(frozen=True)
class Cost:
    """Seconds on this machine, of one image each."""

    decode: float  # before its views are computed, where features are cached
    view: float  # to compute and cache its features
    step: float  # to train on it
    check: float  # to validate it between epochs
    inference: float  # to decode and classify it by the finished model

    def fixed(self, work: "Work") -> float:
        """When training is over: a last validation, calibrating, measuring and saving the model."""
        return work.validation * self.check + work.predictions * self.inference + OTHER_SECONDS

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
    """Images for one process."""

    train: float
    validation: float
    predictions: float  # that the finished model will make
    machines: float = 1.0  # each caches the features of all images


@dataclass(frozen=True)
class Plan:
    """What was chosen, and what it is estimated to take."""

    model_args: ModelArguments
    epochs: float
    limits: tuple[float, float]  # fewest and most epochs
    views: int
    cost: Cost
    work: Work

    def epochs_within(self, seconds: float) -> float:
        """How many fit into what is left when the features are cached; at least one."""
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
        """Seconds of each part, in order."""
        parts = {
            "for features": self.cost.features(self.work, self.views),
            "for training": self.epochs * self.cost.epoch(self.work),
            "to evaluate the model": self.seconds_at_end,
        }
        return {name: seconds for name, seconds in parts.items() if seconds}

    @property
    def seconds(self) -> float:
        """Of all parts."""
        return sum(self.parts.values())


def describe_plan(plan: Plan, budget: str) -> str:
    """A line that says what will be done, and how long it is estimated to take."""
    parts = ", ".join(f"{format_duration(seconds)} {name}" for name, seconds in plan.parts.items())
    chosen = f"{counted(plan.epochs, 'epoch')}, freeze={plan.model_args.freeze}"
    size = plan.model_args.train_image_size or plan.model_args.image_size
    if size:
        chosen = f"{size} pixels, {chosen}"
    return f"time_budget={budget}: {chosen}; about {parts}"
