"""Memory of the device that a job computes on: telling when it ran out, giving it back, and doing with less."""

import gc
import sys
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

# What torch's allocators, CUDA and its libraries say; cuDNN finds no way to compute where its workspace has no room.
_SAID = (
    "can't allocate memory", "out of memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed",
    "cudnn_status_not_supported", "unable to find an engine",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no room, on a GPU or on the CPU."""
    said = str(error).lower()
    by_name = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return by_name or (isinstance(error, RuntimeError) and any(words in said for words in _SAID))


def free_memory() -> None:
    """Give back what nobody holds any more; loads nothing that a job has not loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class AtOnce:
    """How many things go through a network together: halved, for good, whenever memory runs out."""

    def __init__(self, count: int, noun: str = "", say: Callable[[str], None] = lambda words: None) -> None:
        self.count, self._noun, self._say = count, noun, say

    def parts(self, items: Any, work: Callable[[Any], Result]) -> list[Result]:
        """Work on items, anything that can be sliced, a few at a time, in their order."""
        results, start = list[Result](), 0
        while start < len(items):
            try:
                results.append(work(items[start : start + self.count]))
                start += self.count
                continue
            except (RuntimeError, MemoryError) as error:
                if self.count == 1 or not is_out_of_memory(error):
                    raise
            # Outside the handler, whose error holds on to what did not fit.
            free_memory()
            self.count = (self.count + 1) // 2
            self._say(f"Memory ran out: going on with {self.count} {self._noun} at once.")
        return results
