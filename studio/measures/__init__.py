"""Distances between sets of pictures, for training, generation and evaluation alike."""
