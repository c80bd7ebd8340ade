"""Figures that can be believed: generated tiles against real pictures, and a classifier trained on them."""
