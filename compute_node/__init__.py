"""The compute node: takes morphed images in, trains the shared network, answers questions on morphed images."""
