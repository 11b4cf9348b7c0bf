"""A training run: arguments, setup, trainer, optimizers, learning-rate schedules, search."""
