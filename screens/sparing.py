"""Keeps the garbage collector from going through every loaded module again and again while someone types."""

import gc
import sys

# Modules that must have come since the last time; below this the gain is not worth it.
MANY_MODULES = 100
# Objects made before the youngest are gone through; Python's own 700 suits short programs.
THRESHOLD = 20_000


class Sparing:
    """Sets aside what is loaded, once loading has come to rest, so that a full collection takes a tenth of the time."""

    def __init__(self) -> None:
        self._set_aside = 0
        self._before = -1
        gc.set_threshold(THRESHOLD, 10, 10)

    def look(self) -> bool:
        """Called now and then; whether something was set aside."""
        loaded = len(sys.modules)
        at_rest, self._before = loaded == self._before, loaded
        if not at_rest or loaded - self._set_aside < MANY_MODULES:
            return False
        self._set_aside = loaded
        gc.freeze()
        return True
