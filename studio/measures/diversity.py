"""How varied a set of pictures is, and how far one set has moved from another."""

import numpy as np

from studio.measures.distances import Features


def vendi_score(features: Features) -> float:
    """Effective number of different rows of `features` (n, d), from 1, all alike, to n.

    Friedman and Dieng 2023, "The Vendi Score", eq. 2: the exponential of the entropy of the eigenvalues of K / n, with
    the cosine between rows for K.

    Raises:
        ValueError: there is no row, or one of nothing but zeros.
    """
    rows = np.asarray(features, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not len(rows) or not lengths.all():
        raise ValueError("a diversity needs rows that are not zero")
    rows = rows / lengths
    eigenvalues = np.linalg.eigvalsh(rows @ rows.T / len(rows))
    positive = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def change(before: Features, after: Features) -> float:
    """How far pictures have moved from what the same prompts and seeds gave before: 0 not at all, 1 as far as another
    seed's picture is.

    Args:
        before: (prompts, seeds, d), with two seeds or more.
        after: the same shape.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    moved = np.linalg.norm(after - before, axis=2).mean()
    apart = np.linalg.norm(before[:, :, None] - before[:, None], axis=3)
    seeds = before.shape[1]
    usual = apart.sum() / (before.shape[0] * seeds * (seeds - 1))
    return float(moved / max(usual, 1e-12))
