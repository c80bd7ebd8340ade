"""A tile's recipe: everything needed to make the same pixels again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from pydantic import ConfigDict, Field

from studio import __version__, config
from studio.generation.plans import PlannedTile
from studio.models.registry import ModelRef
from studio.settings import Precision, Sampler


@dataclass(frozen=True)
class Sampling:
    """How a batch is sampled, with every default filled in."""

    sampler: str
    steps: int
    guidance: float
    width_px: int
    height_px: int
    precision: str


class Recipe(config.Model):
    """What a recipe must say for its tile to be made again; a PNG may come from anywhere."""

    model_config = ConfigDict(extra="ignore")

    prompt: str
    negative: str = ""
    label: str = ""
    seed: int = Field(ge=0, lt=2**64)
    index: int = Field(0, ge=0)
    model: str
    sampler: Sampler
    steps: int = Field(ge=1, le=1000)
    guidance: float = Field(ge=0, le=50)
    width_px: int = Field(ge=16, le=4096, multiple_of=8)
    height_px: int = Field(ge=16, le=4096, multiple_of=8)
    precision: Precision = "fp32"
    rows: int = Field(1, ge=1, le=1024)
    row: int = Field(0, ge=0)
    threads: int = Field(1, ge=1, le=1024)

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.sampler, self.steps, self.guidance, self.width_px, self.height_px, self.precision)

    @property
    def tile(self) -> PlannedTile:
        return PlannedTile(self.index, self.prompt, self.negative, self.seed, self.label)


def made_with(weights_sha256: str, device: str) -> dict[str, Any]:
    """What else the last bits of a tile depend on."""
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    return {"weights_sha256": weights_sha256, "threads": torch.get_num_threads(), "device": device, **versions}


def differences(known: Mapping[str, Any], weights_sha256: str, device: str) -> list[str]:
    """In what the making of a tile differs now from what its recipe says."""
    now = made_with(weights_sha256, device)
    return [f"{key} is {value}, was {known.get(key)}" for key, value in now.items() if known.get(key) != value]


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
        "sampler": sampling.sampler,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "width_px": sampling.width_px,
        "height_px": sampling.height_px,
        "precision": sampling.precision,
        "rows": len(rows),
        "row": list(rows).index(tile),
        **made_with(weights_sha256, device),
    }
