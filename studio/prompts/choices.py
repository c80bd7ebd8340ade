"""Choices in prompts: `a {red|green} roof` stands for two prompts."""

from itertools import product
from math import prod
from typing import TypeAlias

from studio.errors import UsageError

LIMIT = 10_000
MAX_DEPTH = 20

# A text is a list of parts; a part is plain text, or a list of texts to choose from.
_Part: TypeAlias = "str | list[list[_Part]]"


class _Parser:
    """Reads a prompt from left to right, one character at a time."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> list[_Part]:
        parts = self._parts(depth=0)
        if self._at < len(self._text):
            raise UsageError(
                f"The prompt has a }} without its {{ at character {self._at + 1}.", "Write \\} for the sign itself."
            )
        return parts

    def _parts(self, depth: int) -> list[_Part]:
        """Parts up to the end, or to the | or } of the choice that they belong to."""
        parts: list[_Part] = []
        plain = ""
        while self._at < len(self._text):
            sign = self._text[self._at]
            if sign == "}" or (sign == "|" and depth):
                break
            self._at += 1
            if sign == "\\" and self._text[self._at : self._at + 1] in ("{", "}", "|"):
                plain += self._text[self._at]
                self._at += 1
            elif sign == "{":
                parts += [plain, self._choice(depth + 1)]
                plain = ""
            else:
                plain += sign
        return [*parts, plain]

    def _choice(self, depth: int) -> list[list[_Part]]:
        start = self._at
        if depth > MAX_DEPTH:
            raise UsageError(f"The prompt has choices within choices more than {MAX_DEPTH} deep.", "Close some braces.")
        texts = [self._parts(depth)]
        while self._text[self._at : self._at + 1] == "|":
            self._at += 1
            texts.append(self._parts(depth))
        if self._at >= len(self._text):
            raise UsageError(
                f"The prompt has a {{ without its }} at character {start}.",
                "Close it, or write \\{ for the sign itself.",
            )
        self._at += 1
        return texts


def expand(text: str, limit: int = LIMIT) -> list[str]:
    """Every prompt that a text with choices stands for; the last choice changes fastest.

    `{a|b}` may be nested and may hold nothing; `\\{`, `\\|` and `\\}` are the signs themselves.

    Raises:
        UsageError: a brace is not closed or not opened, or there would be more prompts than the limit.
    """
    parts = _Parser(text).whole()
    count = _count(parts)
    if count > limit:
        raise UsageError(
            f"The prompt stands for {count:,} prompts; {limit:,} can be made at once.", "Offer fewer choices."
        )
    if len(parts) == 1:
        return _texts(parts)
    # An empty choice leaves two spaces in a row.
    return list(dict.fromkeys(" ".join(one.split()) for one in _texts(parts)))


def count_choices(text: str) -> int:
    """How many prompts a text stands for, however many that is; raises as `expand` but for the limit."""
    return _count(_Parser(text).whole())


def _count(parts: list[_Part]) -> int:
    return prod(sum(map(_count, part)) for part in parts if isinstance(part, list))


def _texts(parts: list[_Part]) -> list[str]:
    options = [[part] if isinstance(part, str) else [one for text in part for one in _texts(text)] for part in parts]
    return ["".join(chosen) for chosen in product(*options)]
