"""The engine of rs-studio: data sets, training, generation, evaluation and export, without a screen."""

__version__ = "0.1.0"
