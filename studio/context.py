"""All that a job knows of the world: its settings and folder, `emit` upwards and `control` downwards."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from studio.control import Control
from studio.events import Event, Paused, Phase, Resumed
from studio.runs import JobFolder
from studio.workspace import Workspace

_SECONDS_BETWEEN_REPORTS = 0.1


@dataclass(frozen=True)
class Done:
    """How a job's function ended, with the fields of its result line."""

    result: dict[str, Any] = field(default_factory=dict)
    outcome: Literal["completed", "stopped"] = "completed"


@dataclass(frozen=True)
class Context:
    workspace: Workspace
    folder: JobFolder
    settings: BaseModel
    device: str
    emit: Callable[[Event], None]
    control: Control

    def should_stop(self, step: int = 0) -> bool:
        """Between two pieces of work: rest while paused, then say whether to stop."""
        if self.control.paused:
            self.emit(Paused(step))
            while self.control.paused:
                self.control.wait()
            if not self.control.stopping:
                self.emit(Resumed(step))
        return self.control.stopping

    def counted(self, name: str, total: int, progress: Iterable[int]) -> Iterator[int]:
        """Report a phase while numbers of what is done so far come by; its end is always reported."""
        self.emit(Phase(name, 0, total))
        reported = time.monotonic()
        for done in progress:
            if done >= total or time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
                self.emit(Phase(name, done, total))
                reported = time.monotonic()
            yield done
