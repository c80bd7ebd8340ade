"""Memory of the device that a job computes on: telling when it ran out, and giving it back."""

import gc
import sys

_OF_THE_CPU = "can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no room, on a GPU or on the CPU."""
    return type(error).__name__ == "OutOfMemoryError" or _OF_THE_CPU in str(error) or isinstance(error, MemoryError)


def free_memory() -> None:
    """Give back what nobody holds any more; loads nothing that a job has not loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
