"""Runs side by side, such as those of a sweep: what they differ in, and how far each came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from screens import run_facts, wording
from screens.watching import Watched
from screens.widgets.job_table import Column, JobTable
from screens.widgets.key_line import KeyLine
from screens.widgets.words import Words
from studio.display import shown_line

MOST_SETTINGS = 5
# Of no use beside figures: what a run is called, and when it looks or keeps.
LEFT_OUT = ("description", "known_problems", "saving")


class CompareRunsScreen(ModalScreen[None]):
    """One table, the best held-out measure first; enter opens the run."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,c", "close", "Close")]
    DEFAULT_CSS = """
    CompareRunsScreen .dialog { width: 118; max-width: 100%; height: auto; max-height: 90%; padding: 0 1; }
    CompareRunsScreen JobTable { height: auto; max-height: 28; background: $surface; }
    CompareRunsScreen #note { height: auto; margin-top: 1; color: $foreground 65%; }
    """

    def __init__(self, jobs: Sequence[Watched]) -> None:
        super().__init__()
        self._jobs = sorted(jobs, key=_rank)
        self._told = {job.path: flat(run_facts.settings_of(job.path).get("settings", {})) for job in jobs}
        self._names = differing(list(self._told.values()))[:MOST_SETTINGS]

    def compose(self) -> ComposeResult:
        columns = [Column("", 1), Column("run"), *(Column(_short(name), right=True) for name in self._names)]
        columns += [Column("step", right=True), Column("best↓", right=True), Column("at", right=True)]
        columns += [Column("KID↓", right=True), Column("time", right=True)]
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(f"{wording.count(len(self._jobs), 'run')} compared")
            dialog.border_subtitle = Content("enter open · esc closes")
            yield JobTable(columns)
            yield Words(id="note")
        yield KeyLine()

    def on_mount(self) -> None:
        table = self.query_one(JobTable)
        table.show({str(job.path): self._row(job) for job in self._jobs})
        table.focus()
        sets = {run_facts.setting(job.path, "data", "name") for job in self._jobs}
        notes = ["best: lowest validation loss, at the step beside it."]
        if len(sets) > 1:
            notes.append("! Trained on different data: their losses must not be compared.")
        if {"objective", "data.size_px", "base"} & set(self._names):
            notes.append("! Losses at another objective, size or base are on another scale.")
        self.query_one("#note", Words).say("\n".join(notes))

    def _row(self, job: Watched) -> list[str | Text]:
        state, told, best = job.state, self._told[job.path], job.state.best
        kids = [one.value for one in list(state.metrics) if one.name == "kid"]
        return [
            run_facts.symbol(state),
            shown_line(wording.title_of(state), 22),
            *(shown_line(run_facts.said(told.get(name, "-")), 14) for name in self._names),
            f"{state.step:,}",
            f"{best.loss:.4f}" if best else "-",
            f"{best.step:,}" if best else "-",
            f"{min(kids):.4f}" if kids else "-",
            wording.duration(state.training_seconds) if state.training_seconds else "-",
        ]

    @on(JobTable.RowSelected)
    def _open(self, event: JobTable.RowSelected) -> None:
        job = next((job for job in self._jobs if str(job.path) == event.row_key.value), None)
        if job is not None:
            self.dismiss()
            self.app.run_in_view = job.watch.folder  # type: ignore[attr-defined]
            self.app.call_later(self.app.switch_mode, "train")

    def action_close(self) -> None:
        self.dismiss()


def flat(values: Mapping[str, Any], parents: str = "") -> dict[str, Any]:
    """Nested settings by dotted path."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{parents}{key}"
        if path in LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            found.update(flat(value, f"{path}."))
        else:
            found[path] = value
    return found


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paths of the settings that are not the same in all."""
    paths = dict.fromkeys(path for one in settings for path in one)
    return [path for path in paths if any(one.get(path) != settings[0].get(path) for one in settings)]


def _rank(job: Watched) -> tuple[bool, float]:
    best = job.state.best
    return best is None, best.loss if best else 0.0


def _short(path: str) -> str:
    return path.rpartition(".")[2].replace("_px", "").replace("_", " ")
