"""A tile's recipe: everything needed to make the same pixels again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

from studio import __version__
from studio.generation.plans import PlannedTile
from studio.models.registry import ModelRef


@dataclass(frozen=True)
class Sampling:
    """How a batch is sampled, with every default filled in."""

    sampler: str
    steps: int
    guidance: float
    width_px: int
    height_px: int
    precision: str


def recipe(
    tile: PlannedTile, rows: Sequence[PlannedTile], ref: ModelRef, weights_sha256: str, sampling: Sampling, device: str
) -> dict[str, Any]:
    """The recipe of one tile.

    `rows` are the tiles made together: on the same machine the last bits of a sum depend on the shape of a batch.
    """
    return {
        "software": f"rs-studio {__version__}",
        "synthetic": True,
        "prompt": tile.prompt,
        "negative": tile.negative,
        "label": tile.label,
        "seed": tile.seed,
        "index": tile.index,
        "model": ref.name,
        "weights_sha256": weights_sha256,
        "sampler": sampling.sampler,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "width_px": sampling.width_px,
        "height_px": sampling.height_px,
        "precision": sampling.precision,
        "rows": len(rows),
        "row": list(rows).index(tile),
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }
