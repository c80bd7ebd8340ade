"""A form on a dialog, with what is wrong counted and the field in hand explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input

from screens.widgets.form import Form
from screens.widgets.key_line import KeyLine
from screens.widgets.words import Words
from studio.display import shown
from studio.errors import NotFetched, SettingsError, StudioError

if TYPE_CHECKING:
    from screens.shell import StudioApp


class FormScreen(ModalScreen[None]):
    """Settings asked for; `begin` gets them when every field is right, and may still refuse."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+j,ctrl+enter", "begin", "Start", key_display="^j", priority=True),
        Binding("escape", "close", "Cancel"),
        Binding("pageup", "part(-1)", "Part before", show=False),
        Binding("pagedown", "part(1)", "Next part", show=False),
    ]
    # The field that names a model, which may have to be fetched first.
    MODEL: ClassVar[str] = ""
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-high")]
    DEFAULT_CSS = """
    FormScreen .dialog { width: 92; height: 90%; padding: 1 2 0 2; }
    FormScreen #hint { height: auto; max-height: 3; color: $foreground 65%; margin-top: 1; }
    FormScreen.-low .dialog { height: 100%; padding: 0 1; }
    FormScreen.-low #hint { max-height: 2; margin-top: 0; }
    FormScreen #faults { height: auto; max-height: 3; color: $error; }
    """

    def __init__(
        self,
        title: str,
        model: type[BaseModel],
        values: Mapping[str, Any],
        begin: Callable[[Any], None],
        choices: Mapping[str, list[str]] | None = None,
        leave_out: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self._title, self._begin = title, begin
        self._form = Form(model, values, choices, leave_out)
        self._told_at = 0.0

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(shown(self._title))
            dialog.border_subtitle = Content("^j start · tab next · ↑↓ choices · pgdn next part · esc cancel")
            yield from self.head()
            yield self._form
            yield from self.foot()
            yield Words(id="hint")
            yield Words(id="faults")
        yield KeyLine()

    def head(self) -> Iterable[Widget]:
        """What stands above the fields."""
        return ()

    def foot(self) -> Iterable[Widget]:
        """What stands below the fields."""
        return ()

    def on_mount(self) -> None:
        first = self.query(Input).first()
        first.focus()

    @property
    def studio(self) -> StudioApp:
        return self.app  # type: ignore[return-value]

    @on(Form.FieldFocused)
    def _explain(self, message: Form.FieldFocused) -> None:
        self.query_one("#hint", Words).say(Content(shown(message.help)))

    @on(Form.FaultsFound)
    def _count_faults(self, message: Form.FaultsFound) -> None:
        if message.count:
            noun = "field needs" if message.count == 1 else "fields need"
            self.tell_fault(f"{message.count} {noun} attention.")

    @on(Input.Changed)
    def _forget_fault(self, event: Input.Changed) -> None:
        # The last letters before ^j are told of only after the fault that it found.
        if event.time > self._told_at:
            self.query_one("#faults", Words).say("")

    def tell_fault(self, text: str) -> None:
        self._told_at = monotonic()
        self.query_one("#faults", Words).say(Content(shown(text)))

    async def action_begin(self) -> None:
        settings = self._form.check()
        if settings is None:
            return
        try:
            self._begin(settings)
        except SettingsError as error:
            self._form.mark(dict(error.faults))
        except NotFetched as error:
            self._ask_for_model(settings, error)
        except StudioError as error:
            self.tell_fault(f"{error.message} {error.hint}".strip())
        else:
            self.dismiss()

    def _ask_for_model(self, settings: BaseModel, error: NotFetched) -> None:
        """Everything else is right by now, so it is worth while to fetch the model."""
        from screens.fetch import ask_to_fetch
        from studio.fetching import is_here

        name = str(getattr(settings, self.MODEL, ""))
        if not name or is_here(self.studio.workspace, name):  # it is another one that is missing
            self.tell_fault(f"{error.message} {error.hint}".strip())
            return
        ask_to_fetch(self.studio, name, lambda: self.model_fetched(name))

    def model_fetched(self, name: str) -> None:
        """What was asked for can begin now, once it was looked at."""
        self.studio.tell("^j starts.", f"{name} is here")

    def action_part(self, by: int) -> None:
        self._form.action_part(by)

    def action_close(self) -> None:
        self.dismiss()
