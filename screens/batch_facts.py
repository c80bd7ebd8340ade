"""What came of a batch: the classes of a plan with what was refused, or the axes of a grid, read from its folder."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from textual.content import Content

from screens import run_facts, wording
from screens.watching import Watched
from screens.widgets.picture_grid import Tile
from studio.display import shown, shown_line

SHEET, GRID, REPORT = "grid.png", "grid.json", "class-plan.json"


def pictures(job: Watched) -> list[Tile]:
    """A grid's sheet, then the tiles that were refused, each under the reason."""
    sheet = job.path / SHEET
    found = [Tile(sheet, "all cells, labelled")] if sheet.is_file() else []
    refused = [one for one in list(job.state.refused) if one.file.startswith("refused/") and ".." not in one.file]
    return [*found, *(Tile(job.path / one.file, shown_line(one.reason, 80)) for one in refused)]


def facts(job: Watched) -> Content:
    """Model and state, then every class of a plan, or every axis of a grid."""
    state = job.state
    settings = run_facts.settings_of(job.path).get("settings", {})
    tiles = settings.get("tiles", settings)
    head = [("model", tiles.get("model", "")), ("sampler", tiles.get("sampler", "")), ("state", state.status)]
    head += [("tiles", f"{len(state.images):,}"), ("refused", f"{len(state.refused):,}" if state.refused else "")]
    lines = [
        Content.assemble((f"{name:<10}", "$foreground 65%"), shown_line(str(value), 60))
        for name, value in head
        if value
    ]
    report, grid = _read(job.path / REPORT), _read(job.path / GRID)
    if isinstance(report.get("classes"), list):
        lines += [Content(""), *_classes(report)]
    elif state.refused:
        lines += [Content(""), *_reasons(job)]
    if isinstance(grid.get("axes"), list):
        lines += [Content(""), *_axes(grid)]
    if state.phase is not None:
        lines += [Content(""), Content.assemble(("▸ ", "$accent"), wording.phase_of(state.phase, 24))]
    return Content("\n").join(lines)


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
