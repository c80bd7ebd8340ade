"""The recipes of a batch in one file beside its tiles, for tools that do not look into pictures."""

from pathlib import Path
from typing import Any

from studio import files
from studio.images import read_recipe

SIDECAR = "tiles.jsonl"


def write_sidecar(batch: Path) -> None:
    """One JSON line a tile: file, sha256, and the recipe that is inside; made from the tiles, so never behind them."""
    with files.replacing(batch / SIDECAR) as temporary, temporary.open("wb") as file:
        for tile in sorted((batch / "tiles").glob("[!.]*.png")):
            record: dict[str, Any] = {"file": tile.relative_to(batch).as_posix(), "sha256": files.sha256_of(tile)}
            file.write(files.json_line({**record, **read_recipe(tile)}))
