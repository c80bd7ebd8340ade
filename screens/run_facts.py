"""What a job was told, read from its config.toml once for each version of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from screens import wording
from screens.watching import Watched
from studio import config
from studio.display import shown_line
from studio.errors import StudioError
from studio.runs import SYMBOLS, RunState, age

_known: dict[tuple[Path, int], dict[str, Any]] = {}
COLOURS = {
    "new": "dim", "running": "green", "paused": "yellow", "completed": "green", "stopped": "yellow",
    "interrupted": "yellow", "failed": "red",
}  # fmt: skip


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a job as nested values; empty where they cannot be read."""
    path = folder / "config.toml"
    try:
        key = (path, path.stat().st_mtime_ns)
        if key not in _known:
            _known[key] = config.read_toml(path)
    except (OSError, StudioError):
        return {}
    return _known[key]


def setting(folder: Path, *path: str) -> str:
    """One setting as a line of text; empty where there is none."""
    value: Any = settings_of(folder).get("settings", {})
    for part in path:
        value = value.get(part, "") if isinstance(value, dict) else ""
    return shown_line(value)


def symbol(state: RunState) -> Text:
    return Text(SYMBOLS[state.status], style=COLOURS[state.status])


def run_row(job: Watched) -> tuple[str | Text, ...]:
    """symbol, id, name, data, base, step, loss, validation loss, age."""
    state, folder = job.state, job.path
    number = folder.name.partition("-")[0]
    steps = f"{state.step:,}/{state.steps:,}" if state.steps else "-"
    best = state.best
    return (
        symbol(state),
        shown_line(number, 8),
        shown_line(state.folder.name, 24),
        shown_line(setting(folder, "data", "name"), 18),
        shown_line(setting(folder, "base").rpartition("/")[2], 14),
        steps,
        f"{state.losses[-1][1]:.4f}" if state.losses else "-",
        f"{best.loss:.4f}" if best else "-",
        age(state.updated_at) if state.updated_at else "-",
    )


def fate(job: Watched) -> str:
    """How a run stands, in a sentence that names the key for what comes next; empty where there is nothing to say."""
    state = job.state
    name = wording.title_of(state)
    match state.status:
        case "failed":
            told = state.finished
            return (
                f"! {name} failed: {shown_line(told.message if told else '')} {shown_line(told.hint if told else '')}"
            )
        case "interrupted":
            return f"‖ {name} was interrupted at step {state.step:,}. Press r to resume it."
        case "stopped":
            return f"‖ {name} stopped at step {state.step:,}. Press r to resume it."
        case "paused":
            return f"‖ {name} is paused at step {state.step:,}. Press space on its screen to go on."
        case _:
            return ""


def said(value: Any) -> str:
    """A setting's value in one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return shown_line(", ".join(map(str, value))) if len(value) < 4 else f"{len(value)} given"
    if isinstance(value, float):
        return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else shown_line(value)
