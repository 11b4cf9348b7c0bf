"""What happens beside the training steps: EMA, clipping, divergence, signals, time."""
