"""Make the tiles of a batch, a few together, each saved whole with its recipe inside."""

from collections.abc import Sequence
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
from studio.events import ImageSaved, Phase, Started
from studio.generation.plans import PLAN_FILE, PlannedTile, planned, tile_name
from studio.generation.provenance import Recipe, Sampling, differences, recipe
from studio.generation.samplers import EachStep, own_sampler, sample, tile_noise
from studio.images import open_picture, read_recipe, save_tile
from studio.models.load import DTYPES, DiffusionModel, load_model
from studio.models.registry import ModelRef, resolve
from studio.settings import GenerateSettings
from studio.workspace import Workspace

TILES = "tiles"
_STEPS = {"pndm": 50, "ddim": 50, "dpm++2m": 25, "unipc": 20, "euler": 30}
_GUIDANCE = 7.5


class _Stopped(Exception):
    """Asked to stop between two sampling steps; the tiles in hand are made again by whoever goes on."""


def generate(context: Context) -> Done:
    """Make every tile of the plan that is not there yet; safe to kill and begin again at any moment."""
    settings = context.settings
    assert isinstance(settings, GenerateSettings)
    tiles = planned(context.folder.path / PLAN_FILE)
    context.emit(Started("generate", context.device))
    context.emit(Phase("Opening the model"))
    torch.set_num_threads(cpu_threads(config.load(context.workspace.settings_path, WorkspaceSettings).cpu_threads))
    ref = resolve(context.workspace, settings.model)
    model = load_model(ref, context.device)
    sampling = chosen_sampling(ref, model, settings)
    weights_sha256 = ref.weights_sha256()
    folder = context.folder.path / TILES
    folder.mkdir(exist_ok=True)
    for torn in folder.glob(f"{files.TEMPORARY}*"):
        torn.unlink()
    saved = sum((folder / tile_name(tile)).is_file() for tile in tiles)

    def between_steps(done: int, total: int) -> None:
        if done < total and context.should_stop():
            raise _Stopped

    for start in range(0, len(tiles), settings.batch):
        rows = tiles[start : start + settings.batch]
        if all((folder / tile_name(tile)).is_file() for tile in rows):
            continue
        context.emit(Phase("Generating tiles", saved, len(tiles)))
        if context.should_stop():
            return Done(_result(context, tiles, saved), "stopped")
        try:
            pixels = sample_tiles(model, rows, sampling, between_steps)
        except _Stopped:
            return Done(_result(context, tiles, saved), "stopped")
        for tile, array in zip(rows, pixels, strict=True):
            path = folder / tile_name(tile)
            if path.is_file():
                continue
            sha = save_tile(path, array, recipe(tile, rows, ref, weights_sha256, sampling, context.device))
            saved += 1
            name = path.relative_to(context.folder.path).as_posix()
            context.emit(ImageSaved(tile.index, name, tile.seed, sha, tile.prompt))
    context.emit(Phase("Generating tiles", saved, len(tiles)))
    files.write_manifest(context.folder.path, exclude=("events.jsonl", "control", "log.txt"))
    return Done(_result(context, tiles, saved))


def sample_tiles(
    model: DiffusionModel,
    rows: Sequence[PlannedTile],
    sampling: Sampling,
    each_step: EachStep = lambda done, total: None,
) -> np.ndarray:
    """Pixels (n, height, width, 3) uint8 of tiles made together."""
    cells = (sampling.height_px // model.reduction, sampling.width_px // model.reduction)
    shape = (int(model.unet.config.in_channels), *cells)
    with torch.inference_mode():
        latents = sample(
            model,
            model.embed([tile.prompt for tile in rows]),
            model.embed([tile.negative for tile in rows]),
            torch.cat([tile_noise(tile.seed, shape) for tile in rows]),
            sampling.sampler,
            sampling.steps,
            sampling.guidance,
            each_step,
            precision=DTYPES[sampling.precision],
        )
        pixels: np.ndarray = model.decode(latents).permute(0, 2, 3, 1).numpy()
    return pixels


def chosen_sampling(ref: ModelRef, model: DiffusionModel, settings: GenerateSettings) -> Sampling:
    """What was asked for, else what suits the model, else Stable Diffusion's usual values."""
    suits = ref.defaults()
    sampler = settings.sampler or suits.sampler or own_sampler(model.scheduler)
    own_steps = suits.steps if sampler == suits.sampler else None
    steps = settings.steps or own_steps or _STEPS[sampler]
    usual = _GUIDANCE if suits.guidance is None else suits.guidance
    guidance = usual if settings.guidance is None else settings.guidance
    size = model.native_size_px
    width, height = settings.width_px or size, settings.height_px or size
    if width % model.reduction or height % model.reduction:
        raise UsageError(f"{width} × {height} is no multiple of {model.reduction} pixels.", "Choose another size.")
    return Sampling(sampler, steps, guidance, width, height, settings.precision)


def reproduce(workspace: Workspace, tile: Path, device: str) -> dict[str, Any]:
    """Make a tile again from the recipe inside it, and compare the pixels.

    Returns:
        `identical`, `differing_pixels`, and `reasons` why they may differ.

    Raises:
        UsageError: the file carries no whole recipe, or its model is not here.
    """
    told = read_recipe(tile)
    known = config.check(told, Recipe, f"The recipe in {shown_line(tile)}")
    before = np.asarray(open_picture(tile))
    ref = resolve(workspace, known.model)
    weights_sha256 = ref.weights_sha256()
    torch.set_num_threads(known.threads)
    model = load_model(ref, device)
    pixels = sample_tiles(model, [known.tile] * known.rows, known.sampling)[min(known.row, known.rows - 1)]
    same_size = pixels.shape == before.shape
    differing = int((pixels != before).any(axis=2).sum()) if same_size else pixels.shape[0] * pixels.shape[1]
    reasons = differences(told, weights_sha256, device) if differing else []
    return {"identical": differing == 0, "differing_pixels": differing, "reasons": reasons}


def _result(context: Context, tiles: Sequence[PlannedTile], saved: int) -> dict[str, Any]:
    return {"batch": context.folder.path.name, "requested": len(tiles), "saved": saved}
