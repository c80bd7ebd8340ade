"""Make the cells of a grid, model after model, and lay them out on one labelled sheet."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

import torch

from studio import config, files
from studio.config import WorkspaceSettings
from studio.context import Context, Done
from studio.devices import cpu_threads
from studio.events import Phase, Started, Warned
from studio.generation.axes import GRID_FILE, Cell, read_grid
from studio.generation.batch_size import planned_batch
from studio.generation.choosing import chosen_precision, chosen_sampling
from studio.generation.generate import Stopped, between_steps
from studio.generation.grid_sheet import grid_sheet
from studio.generation.keeping import TILES, Keeper
from studio.generation.making import TileMaker
from studio.generation.plans import tile_name
from studio.generation.provenance import recipe
from studio.generation.remarks import remarks
from studio.generation.sidecar import write_sidecar
from studio.images import open_picture, png_bytes
from studio.memory import free_memory
from studio.models.load import DTYPES, load_model
from studio.models.registry import resolve

Key = TypeVar("Key", bound=Hashable)


def grid(context: Context) -> Done:
    """Make every cell that is not there yet, then the sheet; safe to kill and begin again at any moment."""
    folder = context.folder.path
    plan = read_grid(folder / GRID_FILE)
    context.emit(Started("grid", context.device))
    torch.set_num_threads(cpu_threads(config.load(context.workspace.settings_path, WorkspaceSettings).cpu_threads))
    keeper, told = Keeper(context), list[Warned]()
    try:
        # Each model is opened once, whichever axis it is on.
        for cells in grouped((_opened_with(cell), cell) for cell in plan.cells):
            if not all(keeper.has(keeper.tiles[cell.index]) for cell in cells):
                _make(context, keeper, cells, told)
                free_memory()
    except Stopped:
        write_sidecar(folder)
        return Done(keeper.result(), "stopped")
    context.emit(Phase("Laying out the sheet"))
    pictures = [open_picture(folder / TILES / tile_name(tile)) for tile in keeper.tiles]
    files.write_bytes(folder / plan.sheet, png_bytes(grid_sheet(plan, pictures)))
    write_sidecar(folder)
    files.write_manifest(folder, exclude=("events.jsonl", "control", "log.txt"))
    return Done(keeper.result() | {"sheet": str(folder / plan.sheet)})


def _make(context: Context, keeper: Keeper, cells: list[Cell], told: list[Warned]) -> None:
    """Make cells of one model, those that are sampled alike together, with each remark `told` once."""
    context.emit(Phase("Opening the model"))
    first = cells[0].settings
    ref = resolve(context.workspace, first.model, first.loras)
    precision = first.precision or chosen_precision(torch.device(context.device))
    model = load_model(ref, context.device, DTYPES[precision])
    weights_sha256 = ref.weights_sha256()
    for alike in grouped((chosen_sampling(ref, model, cell.settings), cell) for cell in cells):
        sampling = chosen_sampling(ref, model, alike[0].settings)
        tiles = [keeper.tiles[cell.index] for cell in alike]
        for remark in remarks(ref, model, alike[0].settings, sampling, tiles):
            if remark not in told:
                told.append(remark)
                context.emit(remark)
        batch = alike[0].settings.batch or planned_batch(model, sampling, len(alike))
        maker = TileMaker(model, context.folder.path, batch, context.emit)
        for rows, pixels in maker.made(tiles, keeper.has, sampling, between_steps(context, keeper)):
            for tile, array in zip(rows, pixels, strict=True):
                if not keeper.has(tile):
                    made = (sampling, context.device, maker.is_compiled)
                    keeper.take(tile, array, recipe(tile, rows, ref, weights_sha256, *made))


def grouped(pairs: Iterable[tuple[Key, Cell]]) -> list[list[Cell]]:
    """Cells of one key together, in the order in which the keys come first."""
    groups: dict[Key, list[Cell]] = {}
    for key, cell in pairs:
        groups.setdefault(key, []).append(cell)
    return list(groups.values())


def _opened_with(cell: Cell) -> tuple[str, tuple[str, ...], str | None]:
    return cell.settings.model, cell.settings.loras, cell.settings.precision
