"""What a network costs, from the shapes of its weights alone: arithmetic, activations and parameters, without torch."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

Shapes = Mapping[str, tuple[int, ...]]

TEXT_TOKENS = 77


@dataclass(frozen=True)
class Cost:
    """Of one picture going through a network once."""

    flops: float
    """Multiplications and additions."""
    activations: float
    """Numbers that go into and come out of its layers."""


def weight_shapes(component: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a folder's safetensors files, from their headers alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(component.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes |= {name: tuple(one["shape"]) for name, one in header.items() if name != "__metadata__"}
    return shapes


def parameters(shapes: Shapes) -> int:
    return sum(prod(shape) for shape in shapes.values())


def lora_parameters(shapes: Shapes, targets: tuple[str, ...], rank: int) -> int:
    """Numbers of the additions of a rank to every layer whose name ends with one of the targets."""
    ends = tuple(f".{target}.weight" for target in targets)
    return sum(rank * (shape[0] + prod(shape[1:])) for name, shape in shapes.items() if name.endswith(ends))


def cost(shapes: Shapes, cells: int, prefix: str = "", text_tokens: int = TEXT_TOKENS) -> Cost:
    """The cost of one picture in a UNet of diffusers' layout, or with `prefix` "encoder." in an autoencoder's half.

    Args:
        shapes: of its weights by name.
        cells: side of the square that goes in, in latent cells (for an encoder in pixels).
        text_tokens: that cross-attention looks at.
    """
    ours = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    levels = 1 + max((int(name.split(".")[1]) for name in ours if name.startswith("down_blocks.")), default=0)
    flops = activations = 0.0
    for name, shape in ours.items():
        if len(shape) < 2 or not name.endswith(".weight"):
            continue
        # An encoder ends where a UNet has its middle.
        level = levels - 1 if prefix and name.startswith("conv_out.") else _level(name, levels)
        places = (cells / 2**level) ** 2
        if re.match(r"(time_|add_|class_)", name) or ".time_emb_proj." in name:
            places = 1.0  # once a picture
        elif re.search(r"\.attn2\.to_[kv]\.weight$", name):
            places = text_tokens
        flops += 2 * prod(shape) * places
        activations += places * (shape[0] + shape[1])
        if name.endswith(".to_q.weight"):
            # Queries by keys, then weights by values: Vaswani et al. 2017, eq. 1.
            flops += 4 * shape[0] * places * (text_tokens if ".attn2." in name else places)
    return Cost(flops, activations)


def _level(name: str, levels: int) -> int:
    """How often the picture was halved where a layer's output lies."""
    part, _, rest = name.partition(".")
    index = int(rest.split(".")[0]) if part in ("down_blocks", "up_blocks") else 0
    if part == "down_blocks":
        return index + (".downsamplers." in name)
    if part == "up_blocks":
        return levels - 1 - index - (".upsamplers." in name)
    return levels - 1 if part == "mid_block" else 0


def components(folder: Path) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    """Name and shapes of every part of a model in diffusers layout that has weights."""
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        shapes = weight_shapes(folder / name) if (folder / name).is_dir() else {}
        if shapes:
            yield name, shapes
