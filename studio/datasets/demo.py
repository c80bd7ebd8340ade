"""The bundled demo set: procedural terrain of seven land-cover classes, made from a seed without a download."""

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from studio.datasets.items import Item, Source
from studio.errors import UsageError
from studio.settings import ImportSettings

NAME = "demo"
DEFAULT_COUNT = 420
SIZE_PX = 64
VALID_EVERY = 6  # of each class, every sixth tile is only measured with
_SEEDS_APART = 1_000_003  # so that the tiles of neighbouring seeds differ


def is_demo(source: str) -> bool:
    """Whether a source means the demo set: `demo` or `demo:420`, and no folder of that name."""
    return re.fullmatch(rf"{NAME}(:\d+)?", source) is not None and not Path(source).exists()


def source(settings: ImportSettings) -> Source:
    """As many tiles as `demo:420` asks for, the classes in turn.

    Raises:
        UsageError: the source of the demo format names no count.
    """
    match = re.fullmatch(rf"({NAME})?:?(\d*)", settings.source)
    if match is None:
        raise UsageError(f"{settings.source} is not a demo source.", "Write demo, or demo:420 for 420 tiles.")
    count = int(match[2] or DEFAULT_COUNT)
    if not 1 <= count <= 1_000_000:
        raise UsageError(f"A demo set has 1 to 1,000,000 tiles, not {count}.", "Write demo:420.")
    return Source("demo", lambda readable: _items(count, settings.seed))


def _items(count: int, seed: int) -> Iterator[Item]:
    from studio.datasets import terrain  # numpy; a look at other forms does without

    for index in range(count):
        number, place = divmod(index, len(terrain.CLASSES))
        label = list(terrain.CLASSES)[place]
        tile_seed = seed * _SEEDS_APART + index
        split = "valid" if number % VALID_EVERY == VALID_EVERY - 1 else "train"
        name = f"{label}_{number + 1:04d}.png"
        captions = tuple(terrain.captions(label, tile_seed))
        yield Item(name, partial(_png, label, tile_seed), captions, label, split, {"seed": tile_seed})


def _png(label: str, seed: int) -> bytes:
    from PIL import Image

    from studio.datasets import terrain

    buffer = io.BytesIO()
    Image.fromarray(terrain.tile(label, seed, SIZE_PX)).save(buffer, "PNG")
    return buffer.getvalue()
