"""A training run: from flags to an artifact folder, calibrated and measured.

python_api             `hffruits.train`: flags as keywords, a `FinishedRun` back
run                    the whole run: prepare, plan, fit, finish
run_state              the run's state in one object
run_dir                its folder, and the checkpoint that it resumes from
run_records            `training_args.json`, `metrics.json`, the summary that is logged
options, arguments     flags and their help, as dataclasses; joined with transformers' own
parser                 command lines, keywords and config files parsed into them; recipes; help
flag_help              what the help says: the usual flags, sections, transformers' own
transformers_fields    transformers' own flags read from its source, which is not imported
argument_checks        values and conflicts, before any data is read
setup                  photos, model, open arguments, trainer
datasets               images as tensors
trainer                transformers' `Trainer` with our hooks
checkpointing          checkpoints written atomically, with checksums
callbacks              EMA, clipping, divergence, signals, progress, time budget
feature_cache          the frozen trunk's outputs, computed once
linear_probe           the head's start
optimizers, losses     and lr_schedules, precision: what their names say
schedule_functions     schedules of ours, which need no torch
budget_planner         `--time_budget`: the best settings that fit
cost_estimate          its arithmetic: what a plan takes
lr_finder              learning-rate range test
hyperparameter_search  Optuna
augmentation_preview   what training will see, as an image
recipes                flags that were measured together
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
