"""A text that is drawn again only when it says something else."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


class Words(Static):
    """Foreign text as it is, never parsed as markup."""

    def __init__(self, text: str | Content = "", *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__("", id=id, classes=classes, markup=False)
        self._said = Content("")
        self.say(text)

    @property
    def said(self) -> str:
        """What is shown now."""
        return self._said.plain

    def say(self, text: str | Content) -> None:
        """Show this text."""
        content = Content(text) if isinstance(text, str) else text
        # Contents are equal when their texts are, so colours are compared as well.
        if content.plain == self._said.plain and content.spans == self._said.spans:
            return
        lines_before, self._said = self._said.plain.count("\n"), content
        fits = self.styles.height is not None and not self.styles.height.is_auto
        self.update(content, layout=not fits or lines_before != content.plain.count("\n"))
