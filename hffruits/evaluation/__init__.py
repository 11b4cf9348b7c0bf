"""From predictions to metrics, calibration, corruptions, comparisons and reports."""
