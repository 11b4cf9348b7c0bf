"""Evaluation: predictions, metrics, calibration, corruptions, comparisons, reports.

run             measuring a model: what `hffruits evaluate` and the end of training do
run_data        whose data a model is measured on: what its run held out, or another
dataset         labelled images as samples
predictions     a model's predictions for them, a few numbers each
metrics         every metric, defined once: accuracy, F1, ECE, AUROC, FPR@95
intervals       their 95 % confidence intervals
results         what `metrics.json` holds
calibration     temperature scaling and the OOD threshold
corruptions     accuracy on blurred, noisy, dark ... images
comparison      two models on the same photos
report          the page
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
