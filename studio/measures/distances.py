"""Distances between two sets of feature vectors, exact and without the square root of a matrix."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[Any]
Distance = Callable[[Features, Features], float]

LARGEST_SUBSET = 1000  # as in Binkowski et al., "Demystifying MMD GANs", section 4


def frechet_distance(x: Features, y: Features) -> float:
    """Frechet distance between normal distributions fitted to the rows of `x` (n, d) and `y` (m, d).

    The trace of the square root of the product of both covariances is the sum of the singular values of A Bᵀ, where A
    and B are the centred sets over √(n-1) and √(m-1): no d × d matrix, and exact where n is smaller than d.

    Raises:
        ValueError: a set has fewer than two rows, or the widths differ.
    """
    x, y = _checked(x, y)
    shift = x.mean(0) - y.mean(0)
    a = _centred(x)
    b = _centred(y)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = shift @ shift + np.square(a).sum() + np.square(b).sum() - 2 * overlap
    return max(float(distance), 0.0)  # a distance of nothing can come out a rounding error below


def kid(x: Features, y: Features, subsets: int = 100, subset_size: int = 0, seed: int = 0) -> tuple[float, float]:
    """Kernel inception distance between the rows of `x` (n, d) and `y` (m, d): mean and deviation over subsets.

    Unbiased squared maximum mean discrepancy with the kernel (x·y / d + 1)³, so that it can fall below 0. Subsets are
    drawn without replacement; their size is at most 1000, and half of the smaller set where nothing is said.

    Raises:
        ValueError: a set has fewer than two rows, the widths differ, or the subsets are larger than a set.
    """
    x, y = _checked(x, y)
    smaller = min(len(x), len(y))
    size = subset_size or subset_size_for(smaller)
    if not 2 <= size <= smaller:
        raise ValueError(f"subsets of {size} cannot be drawn from {smaller} rows")
    random = np.random.default_rng(seed)
    values = [
        squared_mmd(x[random.choice(len(x), size, replace=False)], y[random.choice(len(y), size, replace=False)])
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def subset_size_for(n: int) -> int:
    """Rows of one KID subset where the smaller set has `n`: half, so that subsets differ, between 2 and 1000."""
    return max(2, min(LARGEST_SUBSET, n // 2))


def squared_mmd(x: Features, y: Features) -> float:
    """Unbiased squared maximum mean discrepancy of the rows of `x` (n, d) and `y` (m, d), cubic kernel."""
    within_x, within_y, between = _cubic(x, x), _cubic(y, y), _cubic(x, y)
    n, m = len(x), len(y)
    return float(
        (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
        + (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
        - 2 * between.mean()
    )


def real_floor(features: Features, n: int, distance: Distance, seed: int = 0, draws: int = 5) -> float | None:
    """The distance of real pictures from real pictures: mean over draws of two sets of `n` that share no row.

    None where `features` (rows, d) has fewer than 2n rows; a floor at a smaller count would flatter what is compared.
    """
    if n < 2 or len(features) < 2 * n:
        return None
    random = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        order = random.permutation(len(features))
        values.append(distance(features[order[:n]], features[order[n : 2 * n]]))
    return float(np.mean(values))


def _checked(x: Features, y: Features) -> tuple[Features, Features]:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"feature sets of shapes {x.shape} and {y.shape} cannot be compared")
    if len(x) < 2 or len(y) < 2:
        raise ValueError("a distance needs at least two rows in each set")
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


def _centred(x: Features) -> Features:
    """Rows over √(n-1) with their mean taken off; where n > d, a d × d factor with the same Gram matrix."""
    rows = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    # Singular values of A Bᵀ do not change when A = QR is replaced by R.
    factor: Any = np.linalg.qr(rows, mode="r") if rows.shape[0] > rows.shape[1] else rows
    return np.asarray(factor)


def _cubic(x: Features, y: Features) -> Features:
    kernel: Features = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel
