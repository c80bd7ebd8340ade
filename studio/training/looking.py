"""Looks at a run between its steps: held-out loss, previews, distances and the probe, with the weights that count."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from torch import nn

from studio.context import Context
from studio.errors import StudioError
from studio.events import Phase, Planned, Validated, Warned
from studio.memory import free_memory, is_out_of_memory
from studio.settings import FullMethod, LoraMethod, TrainSettings
from studio.training.averaging import MovingAverage
from studio.training.planning import peak_memory_bytes
from studio.training.probe import Probe
from studio.training.ranking import Ranking
from studio.training.recipes import amount

if TYPE_CHECKING:
    from studio.training.train import Task

Seen = TypeVar("Seen")
_TIMED_STEPS = 3


class Looks:
    """What is seen of one run, and what it means for its checkpoints and its end."""

    def __init__(
        self,
        context: Context,
        settings: TrainSettings,
        task: "Task",
        average: MovingAverage | None,
        ranking: Ranking,
    ) -> None:
        self._emit, self._saving, self._task, self._average = context.emit, settings.saving, task, average
        self.ranking = ranking
        self._probe: Probe | None = None
        if settings.saving.probe_every and isinstance(settings.method, LoraMethod | FullMethod):
            self._probe = Probe(task.model, settings, context.folder.path)  # type: ignore[attr-defined]
        self._context, self._settings = context, settings
        self._durations: list[float] = []

    def first(self) -> None:
        """Look at the model before it has learnt anything; what it draws then is the base of every comparison."""
        self._validate(0)
        if self._probe:
            self._probe_at(0)

    def timed(self, first: int, step: int, seconds: float, micro_batch: int) -> None:
        """Take the time of one step; after the third, tell what the whole run will take at that pace."""
        if step > first + _TIMED_STEPS:
            return
        self._durations.append(seconds)
        optimiser = self._settings.optimiser
        if step < first + _TIMED_STEPS or step == optimiser.steps:
            return
        effective = optimiser.effective_batch
        pictures = amount(self._context.workspace, self._settings).training
        self._emit(
            Planned(
                optimiser.steps,
                optimiser.steps * effective / pictures,
                pictures,
                effective,
                micro_batch,
                peak_memory_bytes(self._context.device),
                (optimiser.steps - step) * sorted(self._durations)[len(self._durations) // 2],
                f"measured over {_TIMED_STEPS} steps; the time is what is left, but for encoding",
            )
        )

    def at(self, step: int, is_last: bool, preview: bool) -> bool:
        """Look at what is due after a step; whether the run ends with it, by its count or by its measures."""
        saving = self._saving
        # What is kept is measured too, so that any checkpoint can be compared.
        is_kept = step % saving.checkpoint_every == 0
        if step % saving.validate_every == 0 or is_kept or is_last:
            self._validate(step)
        every = saving.measure_every
        if every and (step % every == 0 or is_last or (is_kept and saving.rank_by == "kid")):
            self._as_room_allows("The measure", step, self._measure)
        if not is_last and self.ranking.is_spent(saving.patience):
            is_last = True
            self._emit(
                Warned(
                    f"No better {saving.rank_by.replace('_', ' ')} in {saving.patience} looks: the run ends at step "
                    f"{step}, and its best was step {self.ranking.best()}.",
                    "Go on from its best checkpoint with --set base=RUN@STEP, or give --set patience=0.",
                )
            )
        if preview or step % saving.preview_every == 0 or is_last:
            self._as_room_allows("The previews", step, self._preview)
        if self._probe and (step % saving.probe_every == 0 or is_last):
            self._as_room_allows("The probe", step, self._probe_at)
        return is_last

    def _as_room_allows(self, what: str, step: int, look: Callable[[int], None]) -> None:
        """A look that does not fit beside the training is left out: no reason to lose the steps since the last save."""
        try:
            look(step)
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, whose error holds on to what did not fit.
        free_memory()
        self._emit(
            Warned(
                f"{what} of step {step} did not fit into memory, and the run goes on without.",
                "rs-studio WORKSPACE generate draws from its checkpoints when it has ended.",
            )
        )

    def _preview(self, step: int) -> None:
        self._emit(Phase("Making previews"))
        for shown in self._averaged(lambda: self._task.preview(step)):
            self._emit(shown)

    def _validate(self, step: int) -> None:
        self._emit(Phase("Validating"))
        loss = self._averaged(self._task.validation_loss)
        best = min(self.ranking.validations.values(), default=loss)
        self.ranking.validations[step] = loss
        self._emit(Validated(step, loss, best=loss <= best, bins=list(self._task.bins)))

    def _measure(self, step: int) -> None:
        self._emit(Phase("Measuring"))
        metric = self._averaged(lambda: self._task.measure(step))
        if metric is None:
            if self._saving.rank_by == "kid":
                raise StudioError("This method makes no tiles to measure.", "Give --set rank_by=validation_loss.")
            return
        if metric.name == "kid":
            self.ranking.kids[step] = metric.value
        self._emit(metric)

    def _probe_at(self, step: int) -> None:
        probe = self._probe
        assert probe is not None
        self._emit(Phase("Probing"))
        for event in self._averaged(lambda: probe.look(step)):
            self._emit(event)

    def _averaged(self, act: Callable[[], Seen]) -> Seen:
        return with_average(act, self._average, self._task.parameters)


def with_average(act: Callable[[], Seen], average: MovingAverage | None, parameters: dict[str, nn.Parameter]) -> Seen:
    """Act with the averaged weights in place, where there are any."""
    if average is None:
        return act()
    with average.applied(parameters):
        return act()
