"""What a filter line means: words, `field:value`, and `!` before either for the opposite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Thing = TypeVar("Thing")


def chosen(
    things: Iterable[Thing], line: str, text: Callable[[Thing], str], fields: Callable[[Thing], Mapping[str, str]]
) -> list[Thing]:
    """The things that fit every part of a filter line."""
    parts = line.lower().split()
    if not parts:
        return list(things)
    return [one for one in things if all(_fits(part, text(one), fields(one)) for part in parts)]


def _fits(part: str, text: str, fields: Mapping[str, str]) -> bool:
    if part.startswith("!") and len(part) > 1:
        return not _fits(part[1:], text, fields)
    name, colon, wanted = part.partition(":")
    if colon and name in fields:
        return wanted in fields[name].lower()
    return part in text.lower()
