"""shareasm: the campaign desk for online days."""

__version__ = "0.1.0"
