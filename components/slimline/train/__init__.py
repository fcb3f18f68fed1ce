"""Fit a network to the training split: the first float model, which later steps make small."""
