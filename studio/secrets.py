"""Keys and tokens, held so that they never print."""

import os
import stat
from pathlib import Path
from typing import NoReturn

from studio.errors import UsageError


class Secret:
    """A key that shows as *** everywhere; only `reveal()` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not written anywhere.")


def find_secret(variable: str, folder: Path | None = None) -> Secret | None:
    """A key from the environment, else from `~/.config/rs-studio/<variable>`, which only its owner may read.

    Raises:
        UsageError: the file can be read by others.
    """
    value = os.environ.get(variable)
    if value:
        return Secret(value)
    path = (folder or Path.home() / ".config" / "rs-studio") / variable
    if not path.is_file():
        return None
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError(f"{path} can be read by others.", f"Run: chmod 600 {path}")
    return Secret(path.read_text().strip())
