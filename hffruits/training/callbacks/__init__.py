"""Callbacks of the Trainer, one a file.

ema                the average of the weights, which becomes the model
gradient_clipping  by norm, by value, or adaptive (AGC)
divergence         NaN, infinite and exploding losses end training
signals            SIGTERM and Ctrl-C save a checkpoint first
time_budget        training ends when the time is over
progress           the table of epochs
"""
