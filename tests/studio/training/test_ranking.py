import json

import pytest

from studio.training.ranking import Ranking


def test_the_best_of_those_that_were_kept_is_found() -> None:
    ranking = Ranking("validation_loss", {0: 0.9, 10: 0.4, 20: 0.3, 30: 0.5})
    assert ranking.best() == 20
    assert ranking.best(iter([0, 10, 30, 40])) == 10
    assert ranking.best([40]) is None


def test_of_two_as_good_the_earlier_is_best() -> None:
    assert Ranking("validation_loss", {20: 0.3, 10: 0.3}).best() == 10


def test_the_chosen_measure_decides() -> None:
    ranking = Ranking("kid", {10: 0.1, 20: 0.2}, {10: 0.05, 20: 0.01})
    assert ranking.best() == 20


@pytest.mark.parametrize(("patience", "ends"), [(0, False), (1, True), (2, True), (3, False)])
def test_patience_counts_looks_without_a_better_one(patience: int, ends: bool) -> None:
    assert Ranking("validation_loss", {0: 0.9, 10: 0.3, 20: 0.4, 30: 0.35}).is_spent(patience) == ends


def test_what_a_checkpoint_keeps_ranks_the_same() -> None:
    ranking = Ranking("kid", {0: 1.0, 5: 0.5}, {5: 0.25})
    assert Ranking.of("kid", json.loads(json.dumps(ranking.facts()))) == ranking
    assert Ranking.of("validation_loss", {}) == Ranking()
