"""What stands where nothing is yet: a sentence, and the keys that fill the place."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


class Empty(Static):
    """A sentence, then one line for each key."""

    DEFAULT_CSS = "Empty { padding: 1 2; height: auto; }"

    def __init__(self, sentence: str, *keys: tuple[str, str], id: str | None = None) -> None:
        lines: list[str | tuple[str, str]] = [sentence, "\n"]
        for key, text in keys:
            lines += [("\n", ""), (f"{key:<4}", "bold $primary"), text]
        super().__init__(Content.assemble(*lines), id=id)
