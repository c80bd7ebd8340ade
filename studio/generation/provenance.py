"""A tile's recipe: everything needed to make the same pixels again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any, Literal

import diffusers
import PIL
import torch
import transformers
from pydantic import ConfigDict, Field

from studio import __version__, config
from studio.devices import cpu_name
from studio.display import shown_line
from studio.generation.plans import PlannedTile
from studio.models.registry import ModelRef
from studio.settings import Precision, Sampler

Sha256 = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


@dataclass(frozen=True)
class Sampling:
    """How a batch is sampled, with every default filled in."""

    sampler: str
    steps: int
    guidance: float
    width_px: int
    height_px: int
    precision: str
    rescale: float = 0.0
    seamless: bool = False
    window_px: int = 0
    """Side of the windows of a large picture; 0 where the network sees a tile whole."""
    upscale: int = 1
    init_sha256: str = ""
    """The picture that tiles begin from, in the batch's `inputs`."""
    mask_sha256: str = ""
    strength: float = 1.0

    @property
    def is_made_alone(self) -> bool:
        """Whether one tile's windows take the place of tiles made together."""
        return self.window_px > 0


class Recipe(config.Model):
    """What a recipe must say for its tile to be made again; a PNG may come from anywhere."""

    model_config = ConfigDict(extra="ignore")

    prompt: str
    negative: str = ""
    label: str = ""
    seed: int = Field(ge=0, lt=2**64)
    index: int = Field(0, ge=0)
    model: str
    loras: tuple[str, ...] = ()
    sampler: Sampler
    steps: int = Field(ge=1, le=1000)
    guidance: float = Field(ge=0, le=50)
    width_px: int = Field(ge=16, le=4096, multiple_of=8)
    height_px: int = Field(ge=16, le=4096, multiple_of=8)
    precision: Precision = "fp32"
    rescale: float = Field(0.0, ge=0, le=1)
    seamless: bool = False
    window_px: int = Field(0, ge=0, le=4096)
    upscale: Literal[1, 2, 4] = 1
    init_sha256: Sha256 = ""
    mask_sha256: Sha256 = ""
    strength: float = Field(1.0, gt=0, le=1)
    rows: int = Field(1, ge=1, le=1024)
    row: int = Field(0, ge=0)
    threads: int = Field(1, ge=1, le=1024)
    compiled: bool = False

    @property
    def sampling(self) -> Sampling:
        return Sampling(**{name: getattr(self, name) for name in Sampling.__dataclass_fields__})

    @property
    def tile(self) -> PlannedTile:
        return PlannedTile(self.index, self.prompt, self.negative, self.seed, self.label)


def made_with(weights_sha256: str, device: str) -> dict[str, Any]:
    """What else the last bits of a tile depend on."""
    return {
        "software": f"rs-studio {__version__}",
        "weights_sha256": weights_sha256,
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": device_name(device),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "pillow": PIL.__version__,
    }


@cache
def device_name(device: str) -> str:
    """What a device is called, as the order of its sums differs with its make."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return cpu_name()


def differences(known: Mapping[str, Any], weights_sha256: str, device: str) -> list[str]:
    """In what the making of a tile differs now from what its recipe says."""
    now = made_with(weights_sha256, device)
    return [
        f"{key} is {value}, was {shown_line(known[key], 80) if key in known else 'not recorded'}"
        for key, value in now.items()
        if known.get(key) != value
    ]


def recipe(
    tile: PlannedTile,
    rows: Sequence[PlannedTile],
    ref: ModelRef,
    weights_sha256: str,
    sampling: Sampling,
    device: str,
    compiled: bool = False,
    source: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The recipe of one tile.

    Args:
        rows: the tiles made together: on the same machine the last bits of a sum depend on the shape of a batch.
        source: the recipe of the picture that the tile began from, where it had one.
    """
    return {
        "synthetic": True,
        "prompt": tile.prompt,
        "negative": tile.negative,
        "label": tile.label,
        "seed": tile.seed,
        "index": tile.index,
        "model": ref.name,
        "loras": [one.name for one in ref.extra],
        **asdict(sampling),
        "rows": len(rows),
        "row": list(rows).index(tile),
        "compiled": compiled,
        **made_with(weights_sha256, device),
        **({"source": dict(source)} if source is not None else {}),
    }
