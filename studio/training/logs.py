"""Logs that other programs read, kept up to the journal while a run goes on.

The journal is the truth. A run that begins again writes its logs anew up to where it goes on, so that no kill leaves
a gap in them or a step twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol

from studio.context import Context
from studio.events import Event, Started, Warned
from studio.journal import JournalReader
from studio.settings import Log, TrainSettings
from studio.training.curves import Row, rows_of, values_of


class Writer(Protocol):
    """One log; OSError from it ends the log and not the run."""

    def begin(self, rows: list[Row]) -> None:
        """Write all anew."""

    def add(self, step: int, at: float, values: dict[str, float]) -> None:
        """Write what came at a step, which is the last one or a later one."""

    def close(self) -> None: ...


@contextmanager
def logged(context: Context) -> Iterator[Context]:
    """A context whose events reach the run's logs too.

    Raises:
        UsageError: a log that was asked for needs a library that is not installed.
    """
    settings = context.settings
    assert isinstance(settings, TrainSettings)
    writers = {name: open_writer(name, context, settings) for name in dict.fromkeys(settings.saving.logs)}
    logs = Logs(context, writers)
    try:
        yield replace(context, emit=logs.emit)
    finally:
        logs.close()


class Logs:
    """Follows the journal and hands on what is new."""

    def __init__(self, context: Context, writers: dict[Log, Writer]) -> None:
        self._context = context
        self._writers = writers
        self._reader = JournalReader(context.folder.journal_path)
        self._has_begun = False

    def emit(self, event: Event) -> None:
        self._context.emit(event)
        self._follow()

    def close(self) -> None:
        for name in list(self._writers):
            self._try(name, lambda writer: writer.close())

    def _follow(self) -> None:
        news = self._reader.read()
        beginnings = [place for place, (_, event) in enumerate(news) if isinstance(event, Started)]
        if not self._has_begun and beginnings:
            # What earlier attempts left, up to the beginning of this one.
            rows = rows_of(news[: beginnings[-1] + 1])
            news = news[beginnings[-1] :]
            self._has_begun = True
            for name in list(self._writers):
                self._try(name, lambda writer: writer.begin(rows))
        for at, event in news:
            if (told := values_of(event)) is not None:
                for name in list(self._writers):
                    self._try(name, partial(_add, told[0], at, told[1]))

    def _try(self, name: Log, act: Callable[[Writer], None]) -> None:
        try:
            act(self._writers[name])
        except OSError as error:
            del self._writers[name]
            self._context.emit(
                Warned(
                    f"The log {name} could not be written: {error.strerror or error}.", "The run goes on without it."
                )
            )


def _add(step: int, at: float, values: dict[str, float], writer: Writer) -> None:
    writer.add(step, at, values)


def open_writer(name: Log, context: Context, settings: TrainSettings) -> Writer:
    # Here, as each brings its own library.
    folder = context.folder.path
    if name == "csv":
        from studio.training.csv_log import CsvLog

        return CsvLog(folder / "metrics.csv")
    if name == "tensorboard":
        from studio.training.tensorboard_log import TensorBoardLog

        return TensorBoardLog(folder)
    from studio.training.wandb_log import WandbLog

    return WandbLog(folder, settings)
