"""One thread and one queue for each device."""

import os
import queue
import threading
from collections.abc import Callable

from studio.control import Control
from studio.errors import StudioError
from studio.events import Event, Finished
from studio.jobs import Job, execute, ignore

NICENESS = 10


class DeviceWorker:
    """Does jobs one after the other on its own thread, until closed."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._queue: queue.SimpleQueue[tuple[Job, Control, Callable[[Event], None]] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._idle = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=device, daemon=False)
        self._thread.start()

    def submit(self, job: Job, control: Control, watch: Callable[[Event], None] = ignore) -> None:
        with self._idle:
            self._waiting += 1
        self._queue.put((job, control, watch))

    @property
    def waiting(self) -> int:
        """Jobs not yet ended, the one in hand included."""
        return self._waiting

    def join(self, seconds: float | None = None) -> bool:
        """Wait until nothing is left to do; whether that came in time."""
        with self._idle:
            return self._idle.wait_for(lambda: self._waiting == 0, seconds)

    def close(self) -> None:
        """End the thread after the jobs already given."""
        self._queue.put(None)

    def _work(self) -> None:
        # The interface's thread goes first whenever both want the processor.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (item := self._queue.get()) is not None:
            job, control, watch = item
            try:
                self._do(job, control, watch)
            finally:
                with self._idle:
                    self._waiting -= 1
                    self._idle.notify_all()

    def _do(self, job: Job, control: Control, watch: Callable[[Event], None]) -> None:
        try:
            execute(job, control, watch)
        except StudioError as error:
            watch(Finished("failed", error.message, error.hint, error.exit_code))
        except Exception as error:  # such as a journal on a full disk; the jobs that wait are still to be done
            watch(Finished("failed", f"{type(error).__name__}: {error}", exit_code=1))
