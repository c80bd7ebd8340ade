"""Nearest neighbours among feature vectors: how much of reality tiles cover, and whether one repeats a picture."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[Any]

_ROWS = 512  # of a distance matrix at once


def squared_distances(x: Features, y: Features) -> Features:
    """Squared Euclidean distances (n, m) between the rows of `x` (n, d) and `y` (m, d), float64."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2 * x @ y.T
    result: Features = np.maximum(squares, 0)  # rounding can take the distance of equal rows below zero
    return result


def precision_and_recall(real: Features, generated: Features, k: int = 3) -> tuple[float, float]:
    """Share of generated rows within the real manifold, and of real rows within the generated one.

    A manifold is the union of balls around its rows, each as wide as the distance to its k-th nearest neighbour
    (Kynkäänniemi et al. 2019, eq. 1 and 2). Both fall with fewer rows: compare at equal counts only.

    Raises:
        ValueError: a set has no more than k rows.
    """
    if min(len(real), len(generated)) <= k:
        raise ValueError(f"sets of {len(real)} and {len(generated)} rows have no {k} neighbours each")
    return _within(generated, real, k), _within(real, generated, k)


def _within(rows: Features, manifold: Features, k: int) -> float:
    # The nearest row of a set to one of its own is itself.
    radii = np.partition(squared_distances(manifold, manifold), k, axis=1)[:, k]
    inside = [
        (squared_distances(rows[start : start + _ROWS], manifold) <= radii[None]).any(1)
        for start in range(0, len(rows), _ROWS)
    ]
    return float(np.concatenate(inside).mean())


def nearest(rows: Features, among: Features) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance (n,) of each row (n, d) to the nearest of `among` (m, d), and which one that is."""
    distances, places = [], []
    for start in range(0, len(rows), _ROWS):
        squares = squared_distances(rows[start : start + _ROWS], among)
        place = squares.argmin(1)
        places.append(place)
        distances.append(np.sqrt(squares[np.arange(len(place)), place]))
    return np.concatenate(distances), np.concatenate(places)
