"""Sampling tiles from a model."""
