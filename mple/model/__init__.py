"""The shared network: its first convolution (stem), the trunk behind it, its training, and what it is measured by."""
