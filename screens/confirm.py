"""Questions asked before what is hard to undo."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from screens import wording
from screens.watching import Watched
from studio.display import shown

Leaving = Literal["keep", "stop"]


def choice(key: str, text: str) -> Content:
    return Content.assemble((f"{key:<4}", "bold $primary"), text)


class ConfirmScreen(ModalScreen[bool]):
    """Yes or no; the safe answer has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, title: str, text: str, yes: str, no: str = "Stay") -> None:
        super().__init__()
        self._title, self._text, self._yes, self._no = title, text, yes, no

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(shown(self._title))
            yield Static(Content(shown(self._text)))
            yield OptionList(Option(choice("n", self._no), "no"), Option(choice("y", self._yes), "yes"))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class QuitScreen(ModalScreen["Leaving | None"]):
    """Leaving while jobs are at work: keep them working, save and stop them, or stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "answer('keep')", "Keep working"),
        Binding("s", "answer('stop')", "Save and stop"),
        Binding("escape", "stay", "Stay"),
    ]

    def __init__(self, live: list[Watched], waiting: int) -> None:
        super().__init__()
        self._live, self._waiting = live, waiting

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(self._question())
            yield Static(Content(self._progress()), id="progress")
            yield OptionList(
                Option(choice("esc", "Stay"), "stay"),
                Option(choice("b", "Keep working without the screens"), "keep"),
                Option(choice("s", "Save and stop (r resumes runs and batches later)"), "stop"),
            )

    def _question(self) -> str:
        if not self._live:
            return f"{wording.count(self._waiting, 'job')} not ended yet"
        return f"{wording.title_of(self._live[0].state)} is at work"

    def _progress(self) -> str:
        if not self._live:
            return "Nothing has started yet."
        state = self._live[0].state
        done, total = wording.progress(state)
        text = f"{done:,} of {total:,}" if total else "Just begun"
        text += " steps" if total and state.steps else ""
        if phase := wording.phase_beside(state, 40):
            text += f", {phase[0].lower()}{phase[1:]}"
        if state.seconds_left is not None:
            text += f", about {wording.time_left(state.seconds_left)}"
        return text + "."

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss("keep" if event.option_id == "keep" else "stop" if event.option_id == "stop" else None)

    def action_answer(self, answer: Leaving) -> None:
        self.dismiss(answer)

    def action_stay(self) -> None:
        self.dismiss(None)
