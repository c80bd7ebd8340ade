"""Which checkpoint is best, by what was held out from training, and when there is no use in going on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from studio.runs import RunState

Measure = Literal["validation_loss", "kid"]


@dataclass
class Ranking:
    """The held-out measures of a run by step; lower is better for both."""

    by: Measure = "validation_loss"
    validations: dict[int, float] = field(default_factory=dict)
    kids: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, by: Measure, state: Mapping[str, Any]) -> "Ranking":
        """As a checkpoint's state.json recorded it."""
        return cls(by, _by_step(state.get("validations")), _by_step(state.get("kids")))

    def facts(self) -> dict[str, dict[int, float]]:
        """What state.json keeps, so that a resumed run ranks, and stops, as one that was not interrupted."""
        return {"validations": self.validations, "kids": self.kids}

    @property
    def measured(self) -> dict[int, float]:
        return self.kids if self.by == "kid" else self.validations

    def best(self, steps: Iterable[int] | None = None) -> int | None:
        """The best measured step, of all or of some; the earlier of two that are as good."""
        wanted = set(self.measured if steps is None else steps)
        known = [step for step in sorted(self.measured) if step in wanted]
        return min(known, key=lambda step: self.measured[step], default=None)

    @property
    def looks_since_best(self) -> int:
        best = self.best()
        return sum(step > best for step in self.measured) if best is not None else 0

    def is_spent(self, patience: int) -> bool:
        """Whether so many looks came without a better one; a patience of 0 never ends."""
        return 0 < patience <= self.looks_since_best


def ranking_of(state: RunState, by: Measure) -> Ranking:
    """As a run's journal recorded it."""
    kids = {one.step: one.value for one in state.metrics if one.name == "kid" and one.step is not None}
    return Ranking(by, {one.step: one.loss for one in state.validations}, kids)


def _by_step(values: Mapping[str, float] | None) -> dict[int, float]:
    return {int(step): float(value) for step, value in (values or {}).items()}
