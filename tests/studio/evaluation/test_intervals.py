import pytest

from studio.evaluation.intervals import mcnemar, wilson


@pytest.mark.parametrize(("share", "n"), [(17 / 39, 39), (0.5, 10), (0.99, 500)])
def test_wilsons_interval_ends_where_the_share_would_be_just_believable(share: float, n: int) -> None:
    for end in wilson(share, n):
        assert (share - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / n)


def test_the_intervals_of_none_and_of_all_do_not_vanish() -> None:
    assert wilson(0, 10) == pytest.approx((0, 1.96**2 / (10 + 1.96**2)))
    assert wilson(1, 10) == pytest.approx((10 / (10 + 1.96**2), 1))


def test_mcnemar_counts_only_where_two_differ() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(9, 1) == pytest.approx(2 * (1 + 10) / 2**10)
