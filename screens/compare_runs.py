"""Runs side by side, such as those of a sweep: what they differ in, and how far each came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
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
from studio.config import flat
from studio.display import shown_line
from studio.events import Validated

MOST_SETTINGS = 5
MOST_COLUMNS = 118
# Of no use beside figures: what a run is called, and when it looks or keeps.
LEFT_OUT = ("description", "known_problems", "saving")
# Losses of other data, at another size, from another base or of another objective are on another scale.
SCALE = ("data.name", "data.size_px", "base", "objective")
FIGURES = ("step", "best↓", "at", "KID↓", "time")

Row = list[str | Text]


class CompareRunsScreen(ModalScreen[None]):
    """One table, the best held-out measure first among the runs that can be ranked; enter opens the run."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,c", "close", "Close")]
    DEFAULT_CSS = """
    CompareRunsScreen .dialog { width: 118; max-width: 100%; height: auto; max-height: 90%; padding: 0 1; }
    CompareRunsScreen JobTable { height: auto; max-height: 28; background: $surface; }
    CompareRunsScreen #note { height: auto; margin-top: 1; color: $foreground 65%; }
    """

    def __init__(self, jobs: Sequence[Watched]) -> None:
        super().__init__()
        self._told = {job.path: compared_settings(job.path) for job in jobs}
        scales = {job.path: scale(self._told[job.path]) for job in jobs}
        self._groups = sorted(set(scales.values()))
        self._group = {path: self._groups.index(one) for path, one in scales.items()}
        self._jobs = sorted(jobs, key=lambda job: (self._group[job.path], *_rank(job)))
        self._shown: list[str] = []
        self._names = [name for name in differing(list(self._told.values())) if name not in SCALE]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(f"{wording.count(len(self._jobs), 'run')} compared")
            dialog.border_subtitle = Content("enter open · esc closes")
            yield JobTable(self._columns())
            yield Words(id="note")
        yield KeyLine()

    def _columns(self) -> list[Column]:
        """Every figure, and as many of the settings that differ as there is room for."""
        room = min(self.app.size.width, MOST_COLUMNS) - 5
        first = [*([Column("", 1)] if len(self._groups) > 1 else []), Column(" ", 1), Column("run")]
        figures = [Column(name, right=True) for name in FIGURES]
        columns: list[Column] = []
        for most in range(min(len(self._names), MOST_SETTINGS), -1, -1):
            self._shown = self._names[:most]
            columns = [*first, *(Column(_short(name), right=True) for name in self._shown), *figures]
            cells = [[column.name for column in columns], *(self._row(job) for job in self._jobs)]
            if sum(max(len(str(cell)) for cell in column) + 2 for column in zip(*cells, strict=True)) <= room:
                break
        return columns

    def on_mount(self) -> None:
        table = self.query_one(JobTable)
        table.show({str(job.path): self._row(job) for job in self._jobs})
        table.focus()
        self.query_one("#note", Words).say(Content("\n").join(self._notes()))

    def _notes(self) -> list[Content]:
        notes = [Content("best: lowest validation loss after step 0, at the step beside it.")]
        if rest := [_short(name) for name in self._names if name not in self._shown]:
            notes.append(Content(shown_line(f"They also differ in {', '.join(rest)}.", 150)))
        if len(self._groups) > 1:
            notes.append(Content("Losses of different letters are on different scales:"))
            for place, group in enumerate(self._groups):
                words = shown_line(" · ".join(group) or "settings that cannot be read", 100)
                notes.append(Content.assemble((f"  {_letter(place)} ", "bold $primary"), words))
        if worse := [job.path.name.partition("-")[0] for job in self._jobs if not _improved(job)]:
            notes.append(
                Content.assemble((shown_line(f"! Never better than its base: {', '.join(worse)}."), "$warning"))
            )
        return notes

    def _row(self, job: Watched) -> Row:
        state, told, best = job.state, self._told[job.path], best_trained(job)
        kids = [one.value for one in list(state.metrics) if one.name == "kid"]
        return [
            *([_letter(self._group[job.path])] if len(self._groups) > 1 else []),
            run_facts.symbol(state),
            shown_line(wording.title_of(state), 22 if self.app.size.width >= 100 else 15),
            *(shown_line(run_facts.said(told.get(name, "-")), 14) for name in self._shown),
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


def compared_settings(run: Path) -> dict[str, Any]:
    """A run's settings by dotted path, but for those that say nothing of what it learns."""
    settings = run_facts.settings_of(run).get("settings", {})
    return flat({key: value for key, value in settings.items() if key not in LEFT_OUT})


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paths of the settings that are not the same in all."""
    paths = dict.fromkeys(path for one in settings for path in one)
    return [path for path in paths if any(one.get(path) != settings[0].get(path) for one in settings)]


def scale(told: Mapping[str, Any]) -> tuple[str, ...]:
    """What must be equal for losses to be compared, in words."""
    data, size, base, objective = (told.get(name) for name in SCALE)
    words = (
        data,
        f"{size} px" if size else "",
        base,
        f"objective {objective}" if objective not in (None, "base") else "",
    )
    # An autoencoder's loss is of pixels, not of noise.
    autoencoder = "autoencoder" if told.get("method.name") == "autoencoder" else ""
    return tuple(str(word) for word in (*words, autoencoder) if word)


def best_trained(job: Watched) -> Validated | None:
    """The lowest validation loss of a run, its base at step 0 apart."""
    return min((one for one in list(job.state.validations) if one.step), key=lambda one: one.loss, default=None)


def _improved(job: Watched) -> bool:
    """Whether a run came below its base, as far as both were measured."""
    base = next((one for one in list(job.state.validations) if not one.step), None)
    best = best_trained(job)
    return base is None or best is None or best.loss < base.loss


def _rank(job: Watched) -> tuple[bool, float]:
    best = best_trained(job)
    return best is None, best.loss if best else 0.0


def _letter(group: int) -> str:
    return ascii_uppercase[group] if group < len(ascii_uppercase) else "…"


def _short(path: str) -> str:
    """The last part of a path; a name is of what stands before it."""
    return path.removesuffix(".name").rpartition(".")[2].replace("_px", "").replace("_", " ")
