"""The best number of tiles to make together is found by trying."""

from typing import Any

import pytest
import torch


@pytest.mark.parametrize(("slower_from", "fits", "tried", "best"), [(16, 256, 16, 8), (512, 4, 4, 4)])
def test_more_are_tried_together_until_they_are_slower_or_do_not_fit(
    slower_from: int, fits: int, tried: int, best: int, benchmark_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = benchmark_of("sampling_speed")
    spent = [0.0]

    def make(count: int) -> None:
        if count > fits:
            raise torch.OutOfMemoryError("There is no room.")
        spent[0] += count**0.5 if count < slower_from else count

    def seconds_of(work: Any, device: str) -> float:
        before = spent[0]
        work()
        return spent[0] - before

    monkeypatch.setattr(benchmark, "seconds_of", seconds_of)
    found = benchmark.best_rate(make, "cpu")
    assert (max(found["tiles_a_second"]), found["best"]) == (tried, best)
