"""Make the tiles of a batch, a few together, each saved whole with its recipe inside."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio import config, files
from studio.config import WorkspaceSettings
from studio.context import Context, Done
from studio.devices import cpu_threads
from studio.display import shown_line
from studio.errors import UsageError
from studio.events import Phase, Started
from studio.generation.batch_size import planned_batch, recalled_batch, remember_batch
from studio.generation.choosing import chosen_precision, chosen_sampling
from studio.generation.inputs import folder_with_inputs, kept_input
from studio.generation.keeping import Keeper
from studio.generation.making import TileMaker
from studio.generation.provenance import Recipe, Sampling, differences, recipe
from studio.generation.remarks import fitting_remarks, remarks
from studio.generation.samplers import EachStep
from studio.generation.sidecar import has_changed, recipe_of, write_sidecar
from studio.images import open_picture, read_recipe
from studio.models.load import DTYPES, load_model
from studio.models.registry import resolve
from studio.settings import GenerateSettings
from studio.workspace import Workspace

_SECONDS_BETWEEN_STEPS_TOLD = 0.5


class Stopped(Exception):
    """Asked to stop between two sampling steps; the tiles in hand are made again by whoever goes on."""


def generate(context: Context) -> Done:
    """Make every tile of the plan that is not there yet; safe to kill and begin again at any moment."""
    settings = context.settings
    assert isinstance(settings, GenerateSettings)
    folder = context.folder.path
    context.emit(Started("generate", context.device))
    context.emit(Phase("Opening the model"))
    torch.set_num_threads(cpu_threads(config.load(context.workspace.settings_path, WorkspaceSettings).cpu_threads))
    ref = resolve(context.workspace, settings.model, settings.loras)
    precision = settings.precision or chosen_precision(torch.device(context.device))
    model = load_model(ref, context.device, DTYPES[precision])
    sampling = chosen_sampling(ref, model, settings)
    weights_sha256, source = ref.weights_sha256(), _source_recipe(folder, sampling)
    keeper = Keeper(context)
    for remark in (
        *fitting_remarks(folder, settings, sampling),
        *remarks(ref, model, settings, sampling, keeper.tiles),
    ):
        context.emit(remark)
    batch = recalled_batch(folder) or settings.batch
    if not batch:
        batch = planned_batch(model, sampling, keeper.wanted)
        remember_batch(folder, batch)
    maker = TileMaker(model, folder, batch, context.emit)
    try:
        for tiles in keeper.rounds():
            for rows, pixels in maker.made(tiles, keeper.has, sampling, between_steps(context, keeper)):
                for tile, array in zip(rows, pixels, strict=True):
                    if not keeper.has(tile):
                        made = (sampling, context.device, maker.is_compiled, source)
                        keeper.take(tile, array, recipe(tile, rows, ref, weights_sha256, *made))
    except Stopped:
        write_sidecar(folder)
        return Done(keeper.result(), "stopped")
    context.emit(Phase("Generating tiles", keeper.kept, keeper.wanted))
    keeper.finish()
    write_sidecar(folder)
    keeper.check_for_tiles()
    files.write_manifest(folder, exclude=("events.jsonl", "control", "log.txt"))
    return Done(keeper.result())


def between_steps(context: Context, keeper: Keeper) -> EachStep:
    """Listen before each step, and now and then tell how far the tiles in hand are."""
    told = 0.0

    def each(done: int, total: int) -> None:
        nonlocal told
        if done == 0 or time.monotonic() - told >= _SECONDS_BETWEEN_STEPS_TOLD:
            context.emit(Phase("Generating tiles", keeper.kept, keeper.wanted, done, total))
            told = time.monotonic()
        if done < total and context.should_stop():
            raise Stopped

    return each


def reproduce(workspace: Workspace, tile: Path, device: str) -> dict[str, Any]:
    """Make a tile again from the recipe inside it, and compare the pixels.

    Returns:
        `identical`, `differing_pixels`, and `reasons` why they may differ.

    Raises:
        UsageError: neither the file nor its batch has its whole recipe, or its model or the picture it began from is
            not here.
    """
    told = recipe_of(tile)
    known = config.check(told, Recipe, f"The recipe in {shown_line(tile)}")
    before = np.asarray(open_picture(tile))
    folder = folder_with_inputs(workspace, tile, [known.init_sha256, known.mask_sha256])
    ref = resolve(workspace, known.model, known.loras)
    weights_sha256 = ref.weights_sha256()
    torch.set_num_threads(known.threads)
    model = load_model(ref, device, DTYPES[known.precision])
    maker = TileMaker(model, folder, known.rows, lambda event: None)
    if known.compiled and model.device.type == "cuda":
        maker.compile()
    pixels = maker.make([known.tile] * known.rows, known.sampling)[min(known.row, known.rows - 1)]
    same_size = pixels.shape == before.shape
    differing = int((pixels != before).any(axis=2).sum()) if same_size else pixels.shape[0] * pixels.shape[1]
    reasons = _reasons(tile, told, weights_sha256, device) if differing else []
    return {"identical": differing == 0, "differing_pixels": differing, "reasons": reasons}


def _reasons(tile: Path, told: Mapping[str, Any], weights_sha256: str, device: str) -> list[str]:
    """Why a tile's pixels are others than those made now; what is certain first."""
    changed = has_changed(tile)
    found = ["the file was changed after it was made"] if changed else []
    found += differences(told, weights_sha256, device)
    if found:
        return found
    if changed is None:
        return ["the picture or its recipe was changed after it was made"]
    return ["nothing that the recipe records has changed, so this machine computes otherwise"]


def _source_recipe(folder: Path, sampling: Sampling) -> dict[str, Any] | None:
    """The recipe of the picture that tiles begin from, where it is a tile itself."""
    if not sampling.init_sha256:
        return None
    try:
        return read_recipe(kept_input(folder, sampling.init_sha256))
    except UsageError:
        return None
