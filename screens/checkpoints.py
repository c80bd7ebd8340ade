"""A run's checkpoints with what was measured at each, and which of them stands for the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen

from screens import wording
from screens.widgets.job_table import Column, JobTable
from screens.widgets.key_line import KeyLine
from screens.widgets.words import Words
from studio.display import shown, shown_line
from studio.errors import StudioError

if TYPE_CHECKING:
    from screens.shell import StudioApp

FIRST = ("kid", "forgetting", "change", "drift", "diversity")
MOST_MEASURES = 6


class CheckpointsRead(Message):
    """A thread has read the checkpoints, or promoted one and read them again."""

    def __init__(self, records: list[dict[str, Any]], said: str) -> None:
        super().__init__()
        self.records, self.said = records, said


class CheckpointScreen(ModalScreen[None]):
    """The table; p lets a checkpoint stand for its run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "promote", "Promote", tooltip="Let this checkpoint stand for its run"),
        Binding("g", "generate", "Generate", tooltip="To the prompt screen with this checkpoint"),
        Binding("w", "export", "Write out", tooltip="Export this checkpoint as a LoRA or a whole model"),
        Binding("escape,q,c", "close", "Close"),
    ]
    DEFAULT_CSS = """
    CheckpointScreen .dialog { width: 108; height: auto; max-height: 90%; padding: 0 1; }
    CheckpointScreen JobTable { height: auto; max-height: 24; background: $surface; }
    CheckpointScreen #by-noise { height: auto; max-height: 3; margin-top: 1; color: $foreground 65%; }
    """

    def __init__(self, run: Path) -> None:
        super().__init__()
        self._run = run
        self._records: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(f"Checkpoints · {shown_line(self._run.name, 40)}")
            dialog.border_subtitle = Content("p promote · g generate · w write out · esc closes")
            yield Words("Reading…", id="by-noise")
        yield KeyLine()

    @property
    def studio(self) -> StudioApp:
        return self.app  # type: ignore[return-value]

    def on_mount(self) -> None:
        self._read(None)

    @work(thread=True, exclusive=True, group="checkpoints")
    def _read(self, promoted: int | None) -> None:
        """A journal may be long, and promoting makes sure that every byte of a checkpoint is there."""
        from studio import requests
        from studio.listing import checkpoint_records

        said = ""
        try:
            if promoted is not None:
                name = requests.promote(self.studio.workspace, f"{self._run.name}@{promoted}")
                said = f"{name} stands for its run now."
            records = checkpoint_records(self._run)
        except (StudioError, OSError) as error:
            records, said = self._records, wording.error_text(error) if isinstance(error, StudioError) else str(error)
        self.post_message(CheckpointsRead(records, said))

    async def on_checkpoints_read(self, message: CheckpointsRead) -> None:
        self._records = message.records
        if not self._records:
            self.query_one("#by-noise", Words).say("No checkpoint yet. s on the Train screen saves one now.")
            return
        names = measures(self._records)
        if not self.query(JobTable):
            columns = [Column("step", right=True), Column("valid", right=True)]
            columns += [Column(name, right=True) for name in names]
            columns.append(Column(f"by {self._records[0]['rank_by'].replace('_', ' ')}"))
            table = JobTable(columns, enter="")
            await self.query_one(".dialog").mount(table, before=0)
            self._show(names, message.said, True)
        else:
            self._show(names, message.said, False)

    def _show(self, names: list[str], said: str, is_first: bool) -> None:
        table = self.query_one(JobTable)
        table.show({str(one["step"]): row(one, names) for one in self._records})
        if is_first:
            best = next((one for one in self._records if one["promoted"]), None)
            best = best or next((one for one in self._records if one["best"]), self._records[-1])
            table.focus()
            table.go_to(str(best["step"]))
        self._explain(said)

    @on(JobTable.RowHighlighted)
    def _row_in_view(self) -> None:
        self._explain("")

    def _explain(self, said: str) -> None:
        record = self._record
        bins = wording.by_noise(record["bins"]) if record and record["bins"] else ""
        lines = [f"Validation by noise, little to much: {bins}" if bins else "", shown(said)]
        self.query_one("#by-noise", Words).say("\n".join(line for line in lines if line))

    @property
    def _record(self) -> dict[str, Any] | None:
        step = self.query_one(JobTable).row_in_view if self.query(JobTable) else None
        return next((one for one in self._records if str(one["step"]) == step), None)

    def action_promote(self) -> None:
        if record := self._record:
            self.query_one("#by-noise", Words).say("Making sure that the checkpoint is whole…")
            self._read(record["step"])

    def action_generate(self) -> None:
        if record := self._record:
            self.studio.recipe_to_reuse = {"model": record["checkpoint"]}
            self.dismiss()
            self.app.call_later(self.app.switch_mode, "prompt")

    def action_export(self) -> None:
        from screens.export_form import ask_for_run_export

        if record := self._record:
            ask_for_run_export(self.studio, self._run, record["step"])

    def action_close(self) -> None:
        self.dismiss()


def measures(records: list[dict[str, Any]]) -> list[str]:
    """The measures to show, those of quality and of forgetting first."""
    found = {name for record in records for name in record["metrics"]}
    known = [name for name in FIRST if name in found]
    return [*known, *sorted(found - set(known))][:MOST_MEASURES]


def row(record: dict[str, Any], names: list[str]) -> list[str | Text]:
    loss = record["validation_loss"]
    figures = [record["metrics"].get(name) for name in names]
    stands = " ".join(word for word in ("best", "promoted") if record[word])
    return [
        f"{record['step']:,}",
        "-" if loss is None else f"{loss:.4f}",
        *("-" if value is None else f"{value:.4g}" for value in figures),
        Text(stands, style="bold" if stands else ""),
    ]
