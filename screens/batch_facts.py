"""What came of a batch: the classes of a plan with what was refused, or the axes of a grid, read from its folder."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from textual.content import Content

from screens import run_facts, wording
from screens.watching import Watched
from screens.widgets.picture_grid import Tile
from studio.display import shown, shown_line
from studio.errors import StudioError

SHEET, GRID, PLAN = "grid.png", "grid.json", "plan.jsonl"
CLASS_PLAN, REPORT = "class-plan.toml", "class-plan.json"


def has_sheet(job: Watched) -> bool:
    """Whether a grid is laid out, and not being made."""
    return not job.is_live and (job.path / SHEET).is_file()


def sheet(job: Watched) -> list[Tile]:
    """All cells of a grid in one picture."""
    return [Tile(job.path / SHEET, "all cells, labelled")]


def refused(job: Watched) -> list[Tile]:
    """The tiles that were refused, each under the reason."""
    found = [one for one in list(job.state.refused) if one.file.startswith("refused/") and ".." not in one.file]
    return [Tile(job.path / one.file, shown_line(one.reason, 80)) for one in found]


def tiles(job: Watched) -> list[Tile]:
    """The tiles of a batch in order, each under what tells it from the others."""
    known = words_of(job.path)
    images = sorted(list(job.state.images), key=lambda one: one.index)
    named = ((one, known.get(one.index) or wording.subject(one.prompt)) for one in images)
    return [Tile(job.path / one.path, shown_line(f"{one.index + 1} {words}", 60)) for one, words in named]


def words_of(folder: Path) -> dict[int, str]:
    """What tells each tile from the others: its class, or what varies over the cells of its grid."""
    for name, read in ((GRID, _varied), (PLAN, _labels)):
        try:
            return read(folder, (folder / name).stat().st_mtime_ns)
        except (OSError, ValueError, TypeError, LookupError, StudioError):
            continue
    return {}


@lru_cache(maxsize=64)
def _varied(folder: Path, modified_ns: int) -> dict[int, str]:
    from studio.batch_folders import grid_headings

    return {index: " · ".join(map(wording.subject, words)) for index, words in grid_headings(folder).items()}


@lru_cache(maxsize=64)
def _labels(folder: Path, modified_ns: int) -> dict[int, str]:
    from studio.batch_folders import tile_labels

    return tile_labels(folder)


def wanted(job: Watched) -> int:
    """How many tiles the batch is to have in the end; 0 where that is not known."""
    count = run_facts.settings_of(job.path).get("settings", {}).get("count", 0)
    if isinstance(count, int) and count:
        return count
    try:
        return (job.path / PLAN).read_bytes().count(b"\n") if (job.path / GRID).is_file() else 0
    except OSError:
        return 0


def facts(job: Watched) -> Content:
    """Model and state, then every class of a plan, or every axis of a grid."""
    state = job.state
    settings = run_facts.settings_of(job.path).get("settings", {})
    told = settings.get("tiles", settings)
    head = [("model", told.get("model", "")), ("sampler", told.get("sampler", "")), ("state", fate(job))]
    head += [("tiles", wording.tiles_of(state, wanted(job)).partition(" tile")[0])]
    head += [("refused", f"{len(state.refused):,}" if state.refused else "")]
    lines = [
        Content.assemble((f"{name:<10}", "$foreground 65%"), shown_line(str(value), 60))
        for name, value in head
        if value
    ]
    report, grid = _read(job.path / REPORT), _read(job.path / GRID)
    if isinstance(report.get("classes"), list):
        lines += [Content(""), *_classes(report)]
    elif classes := _classes_so_far(job):
        lines += [Content(""), *_classes({"classes": classes})]
    elif state.refused:
        lines += [Content(""), *_reasons(job)]
    if isinstance(grid.get("axes"), list):
        lines += [Content(""), *_axes(grid)]
    if state.phase is not None:
        lines += [Content(""), Content.assemble(("▸ ", "$accent"), wording.phase_of(state.phase, 24))]
    return Content("\n").join(lines)


def fate(job: Watched) -> str:
    """How a batch stands, with the key for what comes next."""
    status = job.state.status
    return f"{status}: r resumes" if status in wording.RESUMABLE else status


def _classes_so_far(job: Watched) -> list[dict[str, Any]]:
    """What became of each class of a plan that is not done yet, as its report will say; nothing is missing yet."""
    from studio.batch_folders import class_counts

    try:
        verdicts = {int(Path(one.file).stem) - 1: one.reason for one in list(job.state.refused)}
        return class_counts(job.path, verdicts | {one.index: "" for one in list(job.state.images)})
    except (OSError, ValueError, TypeError, LookupError, StudioError):
        return []


def _classes(report: dict[str, Any]) -> list[Content]:
    lines = [Content.assemble((f"{'class':<22}{'kept':>10}{'tried':>7}", "bold $primary"))]
    for one in report["classes"]:
        kept = f"{one.get('kept', 0):,}/{one.get('wanted', 0):,}"
        row = f"{shown_line(str(one.get('name', '')), 21):<22}{kept:>10}{one.get('attempts', 0):>7,}"
        lines.append(Content.assemble((row, "$warning" if one.get("missing") else "")))
        for reason, count in (one.get("refused") or {}).items():
            lines.append(Content.assemble((f"  {count:,} refused: {shown_line(str(reason), 30)}", "$foreground 65%")))
    for pair in report.get("alike") or []:
        share = f"{pair.get('share', 0):.0%} of {pair.get('of', '')} are nearest to {pair.get('to', '')}"
        lines.append(Content.assemble((shown_line(f"! {share}", 80), "$warning")))
    if network := str(report.get("network") or "").partition(", sha256")[0]:
        lines += [Content(""), Content.assemble((shown(f"judged by {network}"), "$foreground 65%"))]
    return lines


def _reasons(job: Watched) -> list[Content]:
    """By kind, while a plan is not done yet."""
    kinds = Counter(one.reason.partition(":")[0] for one in list(job.state.refused))
    lines = [Content.assemble(("refused so far", "bold $primary"))]
    return [*lines, *(Content(f"  {count:,} {shown_line(kind, 40)}") for kind, count in kinds.most_common())]


def _axes(grid: dict[str, Any]) -> list[Content]:
    lines = [Content(shown(str(grid["title"])))] if grid.get("title") else []
    for place, axis in zip(("columns", "rows", "blocks"), grid["axes"], strict=False):
        values = ", ".join(map(str, axis.get("values", ())))
        lines.append(
            Content.assemble((f"{place:<10}", "$foreground 65%"), shown_line(f"{axis.get('name')} {values}", 200))
        )
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
