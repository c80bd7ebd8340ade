import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_mmd

from studio.measures.distances import frechet_distance, kid, real_floor, squared_mmd, subset_size_for


def normal(seed: int, n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return scale * np.random.default_rng(seed).normal(size=(n, d)) @ mixing + shift


def frechet_by_eigenvalues(x: np.ndarray, y: np.ndarray) -> float:
    """The definition: covariances, and the square root of their product by its eigenvalues."""
    moments = [torch.from_numpy(part) for one in (x, y) for part in (one.mean(0), np.cov(one, rowvar=False))]
    return float(_compute_fid(*moments))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (30, 200), (300, 250)])
def test_the_frechet_distance_is_that_of_torchmetrics(n: int, m: int) -> None:
    x, y = normal(1, n, 24), normal(2, m, 24, 1.3, 0.2)

    assert frechet_distance(x, y) == pytest.approx(frechet_by_eigenvalues(x, y), rel=1e-6)


def test_the_frechet_distance_is_exact_with_fewer_rows_than_columns() -> None:
    x, y = normal(1, 20, 64), normal(2, 25, 64, 1.5)
    # The smaller Gram matrix has the same eigenvalues as the product of both covariances.
    a, b = (x - x.mean(0)) / np.sqrt(19), (y - y.mean(0)) / np.sqrt(24)
    gram = a @ b.T @ b @ a.T
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None)).sum()
    shift = x.mean(0) - y.mean(0)
    expected = shift @ shift + np.trace(a.T @ a) + np.trace(b.T @ b) - 2 * overlap

    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_in_one_dimension_the_frechet_distance_can_be_worked_out_by_hand() -> None:
    x = np.array([[0.0], [2.0]])  # mean 1, variance 2
    y = np.array([[3.0], [9.0]])  # mean 6, variance 18

    assert frechet_distance(x, y) == pytest.approx(5**2 + (np.sqrt(18) - np.sqrt(2)) ** 2)


def test_a_set_is_at_no_distance_from_itself_in_another_order() -> None:
    x = normal(1, 60, 20)

    assert frechet_distance(x, x[::-1].copy()) == pytest.approx(0, abs=1e-9)


def test_single_precision_features_are_measured_in_double_precision() -> None:
    x, y = normal(1, 50, 16, shift=1000.0), normal(2, 50, 16, shift=1000.0)

    single = frechet_distance(x.astype(np.float32), y.astype(np.float32))

    assert single == pytest.approx(frechet_distance(x, y), rel=1e-3)


def test_kid_of_one_subset_is_that_of_torchmetrics() -> None:
    x, y = normal(1, 30, 12), normal(2, 30, 12, 1.2, 0.1)
    k_xx, k_yy, k_xy = (torch.from_numpy((a @ b.T / 12 + 1) ** 3) for a, b in ((x, x), (y, y), (x, y)))
    expected = maximum_mean_discrepancy(k_xx, k_xy, k_yy)

    assert squared_mmd(x, y) == pytest.approx(float(expected), rel=1e-9)
    assert squared_mmd(x, y) == pytest.approx(float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y))), rel=1e-9)


def test_kid_of_two_pairs_can_be_worked_out_by_hand() -> None:
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])
    # Kernel (xy + 1)³. Within x: (2 + 1)³ twice over 2; within y: (0 + 1)³ twice over 2; between: 1, 8, 1, 27 over 4.
    assert squared_mmd(x, y) == pytest.approx(27 + 1 - 2 * 37 / 4)


def test_kid_of_like_sets_is_around_nothing_and_of_unlike_sets_is_not() -> None:
    like, spread = kid(normal(1, 200, 16), normal(2, 200, 16), seed=3)
    unlike, _ = kid(normal(1, 200, 16), normal(2, 200, 16, shift=1.0), seed=3)

    assert abs(like) < 4 * spread
    assert unlike > 10 * abs(like)


def test_kid_is_the_same_for_the_same_seed_and_takes_half_of_a_small_set() -> None:
    x, y = normal(1, 40, 8), normal(2, 40, 8)

    assert kid(x, y, seed=1) == kid(x, y, 100, 20, seed=1)
    assert kid(x, y, seed=1) != kid(x, y, seed=2)
    assert [subset_size_for(n) for n in (2, 3, 64, 5000)] == [2, 2, 32, 1000]


@pytest.mark.parametrize(("n", "m", "d"), [(1, 5, 3), (5, 1, 3)])
def test_one_picture_is_no_set(n: int, m: int, d: int) -> None:
    with pytest.raises(ValueError, match="two rows"):
        frechet_distance(np.zeros((n, d)), np.zeros((m, d)))


def test_sets_of_different_features_are_not_compared() -> None:
    with pytest.raises(ValueError, match="shapes"):
        kid(np.zeros((4, 3)), np.zeros((4, 5)))


def test_the_floor_compares_sets_that_share_no_row() -> None:
    seen = []

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        seen.append((len(x), len(y), len(set(x[:, 0]) & set(y[:, 0]))))
        return 2.0

    assert real_floor(np.arange(50.0).reshape(25, 2), 12, distance, seed=1, draws=3) == 2.0
    assert seen == [(12, 12, 0)] * 3


def test_there_is_no_floor_at_a_smaller_count() -> None:
    assert real_floor(np.zeros((23, 2)), 12, frechet_distance) is None


def test_the_floor_falls_as_the_count_grows() -> None:
    features = normal(1, 800, 32)

    floors = [real_floor(features, n, frechet_distance) for n in (20, 100, 400)]

    assert floors == sorted(floors, reverse=True)
    assert floors[0] > 3 * floors[2]
