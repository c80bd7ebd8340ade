"""The recipes of a batch in one file beside its tiles, for tools that do not look into pictures."""

from pathlib import Path
from typing import Any

from studio import files
from studio.errors import UsageError
from studio.images import read_recipe

SIDECAR = "tiles.jsonl"


def write_sidecar(batch: Path) -> None:
    """One JSON line a tile: file, sha256, and the recipe that is inside; made from the tiles, so never behind them."""
    with files.replacing(batch / SIDECAR) as temporary, temporary.open("wb") as file:
        for tile in sorted((batch / "tiles").glob("[!.]*.png")):
            record: dict[str, Any] = {"file": tile.relative_to(batch).as_posix(), "sha256": files.sha256_of(tile)}
            file.write(files.json_line({**record, **read_recipe(tile)}))


def recipe_of(tile: Path) -> dict[str, Any]:
    """The recipe inside a tile, or beside it in its batch where another tool has stripped it off.

    Raises:
        UsageError: it is no picture, or there is no recipe in either place.
    """
    try:
        return read_recipe(tile)
    except UsageError:
        record = _record_of(tile)
        if record is None or not tile.is_file():
            raise
        return record


def has_changed(tile: Path) -> bool | None:
    """Whether a tile's file is another than its batch has noted; None where nothing is noted of it."""
    record = _record_of(tile)
    return None if record is None else record.get("sha256") != files.sha256_of(tile)


def _record_of(tile: Path) -> dict[str, Any] | None:
    """What the sidecar of a tile's batch says of it."""
    place = tile.resolve()
    sidecar = place.parent.parent / SIDECAR
    name = place.relative_to(place.parent.parent).as_posix()
    records = files.read_records(sidecar) if sidecar.is_file() else iter(())
    return next((record for record in records if record.get("file") == name), None)
