"""The figures of a run by step, as its journal tells them: what every log is made of."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from studio.events import Event, MetricMeasured, Started, StepDone, Validated

OF_EACH_STEP = ("loss", "learning_rate", "gradient_norm", "images", "seconds")


@dataclass
class Row:
    """What was measured at one step."""

    step: int
    at: float
    """When the first of it was, in seconds since 1970."""
    values: dict[str, float] = field(default_factory=dict)


def values_of(event: Event) -> tuple[int, dict[str, float]] | None:
    """The step and the figures that an event brings; None where it brings none."""
    match event:
        case StepDone():
            return event.step, {name: float(getattr(event, name)) for name in OF_EACH_STEP}
        case Validated():
            parts = {f"validation_loss_part_{number}": loss for number, loss in enumerate(event.bins, start=1)}
            return event.step, {"validation_loss": event.loss} | parts
        case MetricMeasured(step=int(step)):
            return step, {event.name: event.value}
        case _:
            return None


def rows_of(events: Iterable[tuple[float, Event]]) -> list[Row]:
    """One row for each step, in order; what came after a step that the run began again from did not last."""
    rows: dict[int, Row] = {}
    for at, event in events:
        if isinstance(event, Started):
            last = event.from_step or -1  # from the beginning, even the look before the first step is taken again
            rows = {step: row for step, row in rows.items() if step <= last}
        elif (told := values_of(event)) is not None:
            step, values = told
            rows.setdefault(step, Row(step, at)).values.update(values)
    return [rows[step] for step in sorted(rows)]
