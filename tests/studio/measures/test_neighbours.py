"""Nearest neighbours, against cases worked by hand."""

import numpy as np
import pytest

from studio.measures.neighbours import nearest, precision_and_recall, squared_distances


def line(*places: float) -> np.ndarray:
    return np.array([[place, 0.0] for place in places])


def test_distances_are_those_of_the_rows_one_by_one() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 3)), random.normal(size=(4, 3))
    by_hand = [[sum((a - b) ** 2) for b in y] for a in x]
    assert squared_distances(x, y) == pytest.approx(np.array(by_hand))


class TestPrecisionAndRecall:
    def test_equal_sets_cover_each_other(self) -> None:
        rows = np.random.default_rng(1).normal(size=(20, 4))
        assert precision_and_recall(rows, rows) == (1.0, 1.0)

    def test_sets_far_apart_share_nothing(self) -> None:
        assert precision_and_recall(line(0, 1, 2, 3), line(100, 101, 102, 103)) == (0.0, 0.0)

    def test_one_place_drawn_over_and_over_is_precise_and_covers_little(self) -> None:
        # k = 1. Real balls reach 1 from 0, 1, 2, 3; those of the tiles 0.01 from 1.00 and 1.01 and 0.01 from 1.02.
        precision, recall = precision_and_recall(line(0, 1, 2, 3), line(1.0, 1.01, 1.02), k=1)
        assert (precision, recall) == (1.0, 0.25)

    def test_too_few_rows_are_refused(self) -> None:
        with pytest.raises(ValueError, match="no 3 neighbours"):
            precision_and_recall(line(0, 1, 2), line(0, 1, 2, 3))


def test_the_nearest_row_and_how_far_it_is() -> None:
    distances, places = nearest(line(0.2, 5), line(-1, 0, 3))
    assert distances == pytest.approx([0.2, 2])
    assert places.tolist() == [1, 2]
