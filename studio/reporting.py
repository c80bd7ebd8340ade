"""What the command line says: results on stdout, narration and a progress bar on stderr, or JSON lines alone."""

import json
import math
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from io import StringIO
from typing import IO, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from studio.display import shown, shown_line
from studio.errors import SettingsError, StudioError
from studio.events import (
    CheckpointSaved,
    Event,
    Finished,
    ImageSaved,
    MetricMeasured,
    Phase,
    Planned,
    PreviewSaved,
    Refused,
    Started,
    StepDone,
    Validated,
    Warned,
)

_SECONDS_BETWEEN_LINES = 0.2
_SHOWN_REFUSALS = 20


class _Narrator(Console):
    """A console whose reader may go away without ending the work."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Count(ProgressColumn):
    """How much is done of how much, and how fast; nothing where the whole is not known."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text()
        rate = f"  {task.speed:.1f}/s" if task.speed else ""
        return Text(f"{task.completed:.0f}/{task.total:.0f}{rate}")


class Reporter:
    """Tells one command's story. File descriptor 1 is its own: whatever libraries print there goes to stderr.

    Leaving its `with` block gives the descriptor back.
    """

    def __init__(self, command: str, as_json: bool) -> None:
        self.command = command
        self.as_json = as_json
        self._out: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        sys.stdout.flush()
        os.dup2(2, 1)
        self._err = _Narrator(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = 0.0
        self._steps = 0
        self._first_step = 0
        self._began = time.monotonic()
        self._refused = 0
        self._results_lost = False

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_bar()
        sys.stdout.flush()
        with suppress(OSError):
            os.dup2(self._out.fileno(), 1)
            self._out.close()

    # ---- while it works

    def event(self, event: Event) -> None:
        """Tell of one event; where the terminal is gone, the work goes on untold."""
        try:
            self._tell(event)
        except OSError:
            self._err.quiet = True
            self._close_bar()

    def _tell(self, event: Event) -> None:
        match event:
            case Started():
                self._steps, self._first_step, self._began = event.steps, event.from_step, time.monotonic()
                if event.from_step:
                    self.say(f"Going on from step {event.from_step}.")
            case Phase():
                self._phase(event)
            case Planned():
                self._plan(event)
            case StepDone():
                self._step(event)
            case Validated():
                self._progress({"validation_loss": event.loss, "step": event.step}, always=True)
                self.say(f"Step {event.step}: validation loss {event.loss:.4f}{' (best)' if event.best else ''}")
            case Refused():
                self._refuse(event)
            case ImageSaved():
                facts = {"path": event.path, "seed": event.seed, "sha256": event.sha256, "prompt": event.prompt}
                self.line({"type": "tile", **facts}, f"{event.path}  seed {event.seed}  {shown_line(event.prompt, 60)}")
            case MetricMeasured():
                self._metric(event)
            case CheckpointSaved() | PreviewSaved():
                self.say(f"Saved {event.path}")
            case Warned():
                self._warn(event)
            case _:
                pass

    def _phase(self, phase: Phase) -> None:
        facts = asdict(phase)
        if not phase.steps:
            del facts["step"], facts["steps"]
        self._progress(facts, always=phase.total > 0 and phase.done >= phase.total)
        within = f"  step {phase.step}/{phase.steps}" if phase.steps else ""
        self._show_bar(phase.name + within, phase.done, phase.total)

    def _plan(self, plan: Planned) -> None:
        if self.as_json:
            self.line({"type": "plan", **asdict(plan), "memory_bytes": round(plan.memory_bytes)})
        else:
            self.say(plan_in_words(plan))

    def _step(self, step: StepDone) -> None:
        elapsed = time.monotonic() - self._began
        rate = (step.step - self._first_step) / elapsed if elapsed else 0.0
        left = (self._steps - step.step) / rate if rate else None
        facts = {
            "step": step.step,
            "steps": self._steps,
            "loss": step.loss,
            "steps_per_second": rate,
            "seconds_left": left,
        }
        self._progress(facts, always=step.step == self._steps)
        pace = step.images / step.seconds if step.seconds else 0.0
        self._show_bar(f"Training  loss {step.loss:.4f}  {pace:.1f} images/s", step.step, self._steps)

    def _refuse(self, refused: Refused) -> None:
        self._refused += 1
        record = {"type": "refused", "file": refused.file, "reason": refused.reason}
        if self.as_json:
            self.line(record)
        elif self._refused <= _SHOWN_REFUSALS:
            self.say(f"Refused {shown_line(refused.file)}: {shown_line(refused.reason)}")
        elif self._refused == _SHOWN_REFUSALS + 1:
            self.say("… more are refused; --json lists every one.")

    def _metric(self, metric: MetricMeasured) -> None:
        floor = "" if metric.floor is None else f"  floor {metric.floor:.5g}"
        text = (
            f"{metric.name}  {metric.value:.5g}{floor}  N {metric.n_real}/{metric.n_generated}  "
            f"{shown_line(metric.network)}"
        )
        self.line({"type": "metric", **asdict(metric)}, text)

    def _warn(self, warned: Warned) -> None:
        if self.as_json:
            self.line({"type": "warning", "message": warned.message, "hint": warned.hint})
        else:
            self.say(f"Note: {warned.message} {warned.hint}".strip())

    # ---- the end

    def finish(self, finished: Finished, exit_code: int, text: str = "") -> int:
        """Say how it ended; the last line of JSON is always the result."""
        self._close_bar()
        record = {"type": "result", "command": self.command, "outcome": finished.outcome, "exit": exit_code}
        record |= finished.result
        if finished.outcome == "failed":
            record["error"] = {"message": finished.message, "hint": finished.hint}
            self.say(shown_line(f"{finished.message} {finished.hint}"), style="red")
        elif finished.outcome == "stopped":
            self.say(_how_to_go_on(finished.result))
        if self.as_json:
            self.line(record)
        elif text and finished.outcome != "failed":
            self.print(text)
        return exit_code or int(self._results_lost)

    def fail(self, error: StudioError) -> int:
        faults = [{"path": path, "fault": fault} for path, fault in getattr(error, "faults", ())]
        result = {"faults": faults} if isinstance(error, SettingsError) else {}
        return self.finish(Finished("failed", error.message, error.hint, error.exit_code, result), error.exit_code)

    # ---- the two streams

    def line(self, record: dict[str, Any], text: str = "") -> None:
        """One result: a JSON line, or a line of text."""
        if self.as_json:
            self._write(json.dumps(_finite(record)))
        elif text:
            self.print(text)

    def print(self, text: str) -> None:
        self._write(shown(text))

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        """A table of results on stdout, for people."""
        table = Table(*head, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(shown_line(cell)) for cell in row))
        # Rich cuts to 80 columns what goes to no terminal, and ends the process where nobody reads.
        width = None if self._out.isatty() else 1000
        drawn = StringIO()
        Console(file=drawn, highlight=False, width=width).print(table)
        self._write("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()))

    def say(self, text: str, style: str | None = None) -> None:
        """Narration, for people only."""
        if not self.as_json:
            console = self._bar.console if self._bar else self._err
            console.print(Text(shown(text), style=style or ""), soft_wrap=True)

    def _write(self, text: str) -> None:
        if self._bar is not None and self._out.isatty():
            self._bar.console.print(Text(text), soft_wrap=True)  # above the bar, not through it
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except OSError as error:
            # Whoever read has gone, or the disk is full; the work goes on and its result is in the workspace.
            self._results_lost = not isinstance(error, BrokenPipeError)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._out.fileno())
            os.close(null)
            if self._results_lost:
                self.say(f"The results cannot be written: {error.strerror}.", style="red")

    def _progress(self, facts: dict[str, Any], always: bool = False) -> None:
        if self.as_json and (always or time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES):
            self._last_line = time.monotonic()
            self.line({"type": "progress", **facts})

    def _show_bar(self, name: str, done: int, total: int) -> None:
        if self.as_json or not self._err.is_terminal:
            return
        if self._bar is None:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(None), _Count())
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._err, transient=True)
            self._bar.start()
        kind = name.split("  ")[0]
        if self._task is None or self._bar.tasks[0].fields["kind"] != kind:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=total or None, completed=done, kind=kind)
        self._bar.update(self._task, description=name, completed=done, total=total or None)

    def _close_bar(self) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()
            self._bar = self._task = None


def plan_in_words(plan: Planned) -> str:
    """What a run is expected to take, in one sentence."""
    at_once = "" if plan.micro_batch == plan.effective_batch else f", {plan.micro_batch} at once"
    share = f"; {plan.trained_parameters:,} of {plan.all_parameters:,} weights" if plan.all_parameters else ""
    return (
        f"{plan.steps} steps of {plan.effective_batch} pictures{at_once} are {plan.epochs:.1f} passes over "
        f"{plan.pictures}{share}; about {plan.memory_bytes / 2**30:.1f} GiB and {in_time(plan.seconds)} "
        f"({plan.source})."
    )


def in_time(seconds: float) -> str:
    """A length of time as people say it: 40 s, 12 min, 3 h 20 min, 2.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"


def _how_to_go_on(result: dict[str, Any]) -> str:
    if "run" in result:
        return f"Stopped at step {result.get('step', 0)}. Go on with: rs-studio WS resume {result['run']}"
    if "batch" in result:
        return f"Stopped. Go on with the same command, with --as {result['batch']}."
    return "Stopped. The same command goes on from here." if "name" in result else "Stopped."


def _finite(value: Any) -> Any:
    """The same without NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
