"""What can go wrong in a way that a person can act on."""

import difflib
from collections.abc import Iterable, Sequence


class StudioError(Exception):
    """A failure told to people: what happened, then what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(StudioError):
    """Arguments, settings or input that cannot be used; nothing was changed."""

    exit_code = 2


class NotFetched(UsageError):
    """A model that has to be downloaded, or unpacked from its file, before it can be opened."""


class SettingsError(UsageError):
    """Every fault of a settings file or form, each with its path, at once."""

    def __init__(self, source: str, faults: Sequence[tuple[str, str]], hint: str = "") -> None:
        self.faults = tuple(faults)
        listed = "; ".join(f"{path}: {fault}" if path else fault for path, fault in self.faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        super().__init__(f"{source} has {count}: {listed}.", hint or "Correct what is named and try again.")


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for a name that does not exist, offering the nearest that does."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    if nearest:
        hint = f"Did you mean {nearest[0]}?"
    elif names:
        hint = "There is " + ", ".join(names[:8]) + ("…" if len(names) > 8 else ".")
    else:
        hint = f"There is no {kind} yet."
    return UsageError(f"There is no {kind} named {name}.", hint)
