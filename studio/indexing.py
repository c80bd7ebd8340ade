"""What of each file goes into the catalog."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio import files
from studio.events import ImageSaved, MetricMeasured
from studio.journal import JournalReader
from studio.workspace import Workspace, folders

FAVOURITES = "favourites.jsonl"
RATINGS = "ratings.jsonl"


def outdated(connection: sqlite3.Connection, workspace: Workspace, kinds: tuple[str, ...] = ()) -> list[str]:
    """Folders and files of the workspace changed or gone since they were indexed; `kinds` narrows the look."""
    known = dict(connection.execute("SELECT path, stamp FROM folders"))
    present = dict(_stamps(workspace))
    names = sorted(name for name in known.keys() | present.keys() if known.get(name) != present.get(name))
    return [name for name in names if not kinds or name.partition("/")[0] in kinds]


def index(connection: sqlite3.Connection, workspace: Workspace, name: str) -> None:
    """Bring what the catalog holds of one folder or file up to date, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # The stamp is taken before the content is read: what comes in between is indexed the next time.
        stamp = dict(_stamps(workspace)).get(name)
        _forget(connection, name)
        if stamp is not None:
            _add(connection, workspace.root / name, name)
            connection.execute("INSERT INTO folders VALUES (?, ?)", (name, stamp))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def clean(text: object) -> str:
    """Text that SQLite can store: broken characters of odd file names become question marks."""
    return str(text).encode("utf-8", "replace").decode()


def _stamps(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """What is worth indexing now: its path relative to the workspace, and what changes whenever it does."""
    journals = [folder / "events.jsonl" for kind in (workspace.batches, workspace.evaluations, workspace.runs)
                for folder in folders(kind)]  # fmt: skip
    finished = [folder / "dataset.toml" for folder in folders(workspace.datasets)]
    for path in [*finished, *journals, workspace.root / FAVOURITES, workspace.root / RATINGS]:
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue
        thing = path if path.parent == workspace.root else path.parent
        yield thing.relative_to(workspace.root).as_posix(), f"{facts.st_mtime_ns} {facts.st_size} {facts.st_ino}"


def _forget(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM folders WHERE path = ?", (name,))
    kind, _, short = name.partition("/")
    if kind == "datasets":
        connection.execute("DELETE FROM captions WHERE dataset = ?", (short,))
    elif kind == "batches":
        connection.execute("DELETE FROM tiles WHERE batch = ?", (short,))
    elif kind in ("evaluations", "runs"):
        connection.execute("DELETE FROM measures WHERE path = ?", (name,))
    else:
        connection.execute("DELETE FROM favourites" if name == FAVOURITES else "DELETE FROM ratings")


def _add(connection: sqlite3.Connection, path: Path, name: str) -> None:
    kind = name.partition("/")[0]
    if kind == "datasets":
        rows: Iterator[tuple[Any, ...]] = _captions(path)
        connection.executemany("INSERT INTO captions VALUES (?, ?, ?, ?, ?)", rows)
    elif kind == "batches":
        connection.executemany("INSERT OR REPLACE INTO tiles VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _tiles(path))
    elif kind in ("evaluations", "runs"):
        connection.executemany("INSERT INTO measures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _measures(path, name))
    elif name == FAVOURITES:
        connection.executemany("INSERT INTO favourites VALUES (?)", _favourites(path))
    else:
        connection.executemany("INSERT INTO ratings VALUES (?, ?)", _ratings(path))


def _captions(folder: Path) -> Iterator[tuple[str, ...]]:
    for row in files.read_records(folder / "captions.jsonl"):
        for caption in row.get("captions", ()):
            place = (folder.name, row.get("file_name", ""), row.get("label", ""), row.get("split", ""))
            yield (clean(caption), *map(clean, place))


def _tiles(batch: Path) -> Iterator[tuple[Any, ...]]:
    """The tiles that a batch's journal says are on disk, with what its plan says of each."""
    plan = {row.get("index"): row for row in files.read_records(batch / "plan.jsonl")}
    for _, event in JournalReader(batch / "events.jsonl").read():
        if isinstance(event, ImageSaved):
            told = plan.get(event.index, {})
            path = f"batches/{batch.name}/{event.path}"
            texts = (event.prompt, told.get("negative") or "", told.get("label") or "")
            yield (path, batch.name, event.index, event.seed, event.sha256, *map(clean, texts))


def _measures(folder: Path, name: str) -> Iterator[tuple[Any, ...]]:
    for _, event in JournalReader(folder / "events.jsonl").read():
        if isinstance(event, MetricMeasured):
            yield (
                name, event.name, event.value, event.n_real, event.n_generated, event.network, event.weights_sha256,
                event.split_sha256, event.floor, event.step, clean(event.note),
            )  # fmt: skip


def _favourites(path: Path) -> Iterator[tuple[str]]:
    last = {row["path"]: row.get("favourite") for row in files.read_records(path) if isinstance(row.get("path"), str)}
    return ((clean(tile),) for tile, favourite in last.items() if favourite)


def _ratings(path: Path) -> Iterator[tuple[str, int]]:
    last = {row["path"]: row.get("rating") for row in files.read_records(path) if isinstance(row.get("path"), str)}
    return ((clean(tile), rating) for tile, rating in last.items() if isinstance(rating, int) and rating)
