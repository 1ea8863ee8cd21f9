"""The trainer: from kept samples to weights, with checkpoints and the records of each step and epoch."""
