"""How a measurement begins, says how far it is, and learns that it should stop."""

import time

import torch

from studio.config import WorkspaceSettings, load
from studio.context import Context
from studio.devices import cpu_threads
from studio.events import Phase, Started

SECONDS_BETWEEN = 0.1  # a journal line each hundredth would be read by nobody


def begin(context: Context, kind: str) -> None:
    """Tell that the work began; it computes with no more threads than the workspace allows."""
    context.emit(Started(kind, context.device))
    torch.set_num_threads(cpu_threads(load(context.workspace.settings_path, WorkspaceSettings).cpu_threads))


class Stopped(Exception):
    """A stop was asked for between two pieces of work."""


class Progress:
    """One named part of the work; call it between pieces with how many are done.

    Raises:
        Stopped: this is where to stop.
    """

    def __init__(self, context: Context, name: str, total: int) -> None:
        self._context, self._name, self._total = context, name, total
        self._told = time.monotonic()
        context.emit(Phase(name, 0, total))

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN or done == self._total:
            self._told = now
            self._context.emit(Phase(self._name, done, self._total))
        if self._context.should_stop(done):
            raise Stopped
