"""What the folder of a batch says to those who show it: grids, labels, class plans, and where prompts come from."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.generation.axes import GRID_FILE, read_grid
from studio.generation.class_plan import CLASS_PLAN, Plan, read_plan, tally
from studio.generation.plans import PLAN_FILE, PlannedTile, planned, read_prompts
from studio.workspace import Workspace


def grid_headings(folder: Path) -> dict[int, list[str]]:
    """What varies over the cells of a grid, by the tile's index.

    Raises:
        OSError: the batch is no grid, or cannot be read.
    """
    grid = read_grid(folder / GRID_FILE)
    headings = [axis.headings for axis in grid.axes]
    return {cell.index: [known[at] for known, at in zip(headings, cell.place, strict=True)] for cell in grid.cells}


def tile_labels(folder: Path) -> dict[int, str]:
    """The class of each tile that has one, by its index.

    Raises:
        OSError: the plan of the batch cannot be read.
    """
    return {tile.index: tile.label for tile in planned(folder / PLAN_FILE) if tile.label}


def class_counts(folder: Path, verdicts: Mapping[int, str]) -> list[dict[str, Any]]:
    """What became of each class of a plan that is not done yet, as its report will say; nothing is missing yet.

    Args:
        verdicts: by a tile's index the reason for which it was refused, empty where it was kept.

    Raises:
        OSError: the batch follows no class plan, or cannot be read.
    """
    plan, tiles = _plan(folder, (folder / CLASS_PLAN).stat().st_mtime_ns)
    return [{**one, "missing": 0} for one in tally(plan, tiles, dict(verdicts))]


@lru_cache(maxsize=4)
def _plan(folder: Path, modified_ns: int) -> tuple[Plan, list[PlannedTile]]:
    return read_plan(folder / CLASS_PLAN), planned(folder / PLAN_FILE)


def prompts_of(workspace: Workspace, source: str) -> list[str]:
    """The prompts of a file, a book or DATASET:SPLIT.

    Raises:
        UsageError: there are none.
    """
    return [line.prompt for line in read_prompts(workspace, source)]
