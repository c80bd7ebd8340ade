"""TensorBoard's event file of a run: `tensorboard --logdir WS/runs` shows them all."""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from studio.training.curves import OF_EACH_STEP, Row

_PATTERN = "events.out.tfevents.*"
_SECONDS_BETWEEN_FLUSHES = 10


class TensorBoardLog:
    """One file for each attempt, which holds all that earlier ones left too; theirs are deleted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: EventsWriter | None = None
        self._flushed_at = 0.0

    def begin(self, rows: list[Row]) -> None:
        self.close()
        earlier = list(self._folder.glob(_PATTERN))
        # A name of its own, as two attempts may begin in the same second.
        self._file = EventsWriter(str(self._folder / "events"), f".{time.time_ns()}")
        # A viewer that is open forgets what it has read before.
        self._file.write_event(Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START)))
        for row in rows:
            self.add(row.step, row.at, row.values)
        self._file.flush()
        for path in earlier:
            path.unlink(missing_ok=True)

    def add(self, step: int, at: float, values: dict[str, float]) -> None:
        assert self._file is not None
        for name, value in values.items():
            group = "train" if name in OF_EACH_STEP else "measured"
            self._file.write_event(Event(wall_time=at, step=step, summary=scalar(f"{group}/{name}", value)))
        if time.monotonic() - self._flushed_at > _SECONDS_BETWEEN_FLUSHES:
            self._file.flush()
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
