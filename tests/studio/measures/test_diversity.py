import numpy as np
import pytest

from studio.measures.diversity import change, vendi_score


def test_rows_all_alike_count_as_one() -> None:
    assert vendi_score(np.tile([3.0, 4.0], (5, 1))) == pytest.approx(1)


def test_rows_that_share_nothing_count_one_by_one() -> None:
    assert vendi_score(7 * np.eye(6)) == pytest.approx(6)


def test_two_kinds_of_which_one_is_rare_count_as_less_than_two() -> None:
    """Three of one kind and one of another: the entropy of (3/4, 1/4) by hand."""
    rows = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    assert vendi_score(rows) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))


def test_it_is_the_entropy_of_the_kernels_eigenvalues() -> None:
    """Against the definition taken word by word with a general eigenvalue solver."""
    rows = np.random.default_rng(0).standard_normal((12, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.svd(unit @ unit.T / 12, compute_uv=False)
    values = values[values > 1e-12]
    assert vendi_score(rows) == pytest.approx(np.exp(-np.sum(values * np.log(values))))


def test_a_row_of_nothing_has_no_direction() -> None:
    with pytest.raises(ValueError, match="not zero"):
        vendi_score(np.zeros((2, 3)))


def test_change_is_measured_in_distances_between_seeds() -> None:
    before = np.random.default_rng(1).standard_normal((3, 4, 6))
    assert change(before, before) == 0
    assert change(before, np.roll(before, 1, axis=1)) == pytest.approx(1, rel=0.4)  # another seed's picture
    moved = before + 0.001
    assert 0 < change(before, moved) < 0.01
