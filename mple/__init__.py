"""mple: hospitals train one network on morphed images, and see what that costs and what it hides."""

__version__ = "0.1.0"
