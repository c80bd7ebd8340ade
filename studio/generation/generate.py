"""Make the tiles of a batch, a few together, each saved whole with its recipe inside."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from studio import config, files
from studio.context import Context, Done
from studio.errors import UsageError
from studio.events import ImageSaved, Phase, Started
from studio.generation.plans import PLAN_FILE, PlannedTile, planned, tile_name
from studio.generation.provenance import Sampling, recipe
from studio.generation.samplers import own_sampler, sample, tile_noise
from studio.images import read_recipe, save_tile
from studio.models.load import DiffusionModel, load_model
from studio.models.registry import ModelRef, resolve
from studio.settings import GenerateSettings
from studio.workspace import Workspace

TILES = "tiles"
_STEPS = {"pndm": 50, "ddim": 50, "dpm++2m": 25, "unipc": 20, "euler": 30}
_GUIDANCE = 7.5
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def generate(context: Context) -> Done:
    """Make every tile of the plan that is not there yet; safe to kill and begin again at any moment."""
    settings = context.settings
    assert isinstance(settings, GenerateSettings)
    tiles = planned(context.folder.path / PLAN_FILE)
    context.emit(Started("generate", context.device))
    context.emit(Phase("Opening the model"))
    torch.set_num_threads(_threads(context.workspace))
    ref = resolve(context.workspace, settings.model)
    model = load_model(ref, context.device)
    sampling = chosen_sampling(ref, model, settings)
    weights_sha256 = ref.weights_sha256()
    folder = context.folder.path / TILES
    folder.mkdir(exist_ok=True)
    saved = sum((folder / tile_name(tile)).is_file() for tile in tiles)

    for start in range(0, len(tiles), settings.batch):
        rows = tiles[start : start + settings.batch]
        if all((folder / tile_name(tile)).is_file() for tile in rows):
            continue
        context.emit(Phase("Generating tiles", saved, len(tiles)))
        if context.should_stop():
            return Done(_result(context, tiles, saved), "stopped")
        pixels = sample_tiles(model, rows, sampling)
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


def sample_tiles(model: DiffusionModel, rows: Sequence[PlannedTile], sampling: Sampling) -> np.ndarray:
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
            precision=_DTYPES[sampling.precision],
        )
        pixels: np.ndarray = model.decode(latents).permute(0, 2, 3, 1).numpy()
    return pixels


def chosen_sampling(ref: ModelRef, model: DiffusionModel, settings: GenerateSettings) -> Sampling:
    """What was asked for, else what suits the model, else Stable Diffusion's usual values."""
    suits = ref.defaults()
    sampler = settings.sampler or str(suits.get("sampler") or own_sampler(model.scheduler))
    own = sampler == suits.get("sampler")
    steps = settings.steps or (int(suits["steps"]) if own and "steps" in suits else _STEPS[sampler])
    guidance = settings.guidance if settings.guidance is not None else float(suits.get("guidance", _GUIDANCE))
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
        UsageError: the file carries no recipe, or its model is not here.
    """
    known = read_recipe(tile)
    missing = [key for key in ("prompt", "seed", "model", "sampler", "steps", "rows") if key not in known]
    if missing:
        raise UsageError(f"The recipe in {tile} does not say its {', '.join(missing)}.", "Name a generated tile.")
    torch.set_num_threads(int(known["threads"]))
    ref = resolve(workspace, str(known["model"]))
    weights_sha256 = ref.weights_sha256()
    model = load_model(ref, device)
    sampling = Sampling(
        known["sampler"],
        int(known["steps"]),
        float(known["guidance"]),
        int(known["width_px"]),
        int(known["height_px"]),
        known["precision"],
    )
    again = PlannedTile(int(known["index"]), known["prompt"], known["negative"], int(known["seed"]), known["label"])
    pixels = sample_tiles(model, [again] * int(known["rows"]), sampling)[int(known["row"])]
    with Image.open(tile) as image:
        before = np.asarray(image.convert("RGB"))
    differing = (
        int((pixels != before).any(axis=2).sum()) if pixels.shape == before.shape else pixels.shape[0] * pixels.shape[1]
    )
    now = {"weights_sha256": weights_sha256, "device": device, "torch": torch.__version__}
    reasons = [f"{key} is {value}, was {known.get(key)}" for key, value in now.items() if known.get(key) != value]
    return {"identical": differing == 0, "differing_pixels": differing, "reasons": reasons if differing else []}


def _threads(workspace: Workspace) -> int:
    wanted = config.load(workspace.settings_path, config.WorkspaceSettings).cpu_threads
    allowed = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
    return wanted or allowed or max((os.cpu_count() or 2) - 1, 1)


def _result(context: Context, tiles: Sequence[PlannedTile], saved: int) -> dict[str, Any]:
    return {"batch": context.folder.path.name, "requested": len(tiles), "saved": saved}
