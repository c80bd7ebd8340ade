"""The index of a workspace: captions, tiles, jobs and figures in SQLite, made again from the files at any time."""

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from studio import files, indexing
from studio.errors import UsageError
from studio.events import MetricMeasured
from studio.migrations import migrate
from studio.workspace import Workspace

BUSY_SECONDS = 10
# One sentence can stand under hundreds of pictures, so more rows are read than hits are wanted.
ROWS_PER_HIT = 30
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT_VTAB)
_NOT_WRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class CaptionHit:
    """A caption found; a higher score fits better."""

    dataset: str
    file_name: str
    caption: str
    score: float
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class Tile:
    """A generated tile with what people said of it; `path` is relative to the workspace, a rating of 0 is none."""

    path: str
    batch: str
    number: int
    seed: int
    sha256: str
    prompt: str
    negative: str
    label: str
    favourite: bool
    rating: int


class Catalog:
    """The index of one workspace. Each call opens it anew, so any thread and any process may ask at any time."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._in_memory: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    def refresh(self) -> None:
        """Index what is new or changed since the last look, and forget what is gone."""
        self._ask(self._refresh)

    def update(self, folder: Path) -> None:
        """Index one folder of the workspace again, or forget it where it is gone."""
        name = folder.relative_to(self.workspace.root).as_posix()
        self._ask(lambda connection: indexing.index(connection, self.workspace, name))

    def rebuild(self) -> None:
        """Make the index again from the files; readers see the old one until the new one is whole."""
        path = self.workspace.catalog_path
        with files.replacing(path) as temporary:
            with closing(_connect(temporary)) as connection:
                self._refresh(connection)
            # A journal left by a killed process belongs to the old file and would be played back into the new one.
            path.with_name(path.name + "-journal").unlink(missing_ok=True)

    def search_captions(self, text: str, limit: int = 20, label: str = "", dataset: str = "") -> list[CaptionHit]:
        """The captions that fit some words best, each sentence once; without words, the first of the label or set."""
        words = re.findall(r"\w+", text)
        if text.strip() and not words:
            return []
        condition, values = _both(("label", label), ("dataset", dataset))
        rank = "0.0"
        if words:
            condition, rank = f"captions MATCH ? AND {condition}", "rank"
            values = [" OR ".join(f'"{indexing.clean(word)}"' for word in words), *values]
        query = (
            f"SELECT dataset, file_name, text, -{rank}, label, split FROM captions WHERE {condition}"
            f" ORDER BY {rank}, rowid LIMIT ?"
        )

        def search(connection: sqlite3.Connection) -> list[CaptionHit]:
            self._refresh(connection, "datasets")
            rows = connection.execute(query, [*values, limit * ROWS_PER_HIT])
            once = {row[2].lower(): row for row in reversed(rows.fetchall())}
            hits = [CaptionHit(*row) for row in reversed(once.values())]
            return sorted(hits, key=lambda hit: -hit.score)[:limit]

        return self._ask(search)

    def tiles(
        self,
        batch: str = "",
        label: str = "",
        text: str = "",
        favourites: bool = False,
        min_rating: int = 0,
        limit: int = -1,
        offset: int = 0,
    ) -> list[Tile]:
        """Tiles that fit every filter given, batch by batch in the order they were made."""
        condition, values = _both(("batch", batch), ("label", label))
        for word in text.split():
            condition += " AND (prompt LIKE ? ESCAPE '!' OR label LIKE ? ESCAPE '!')"
            pattern = "%" + re.sub(r"([!%_])", r"!\1", indexing.clean(word)) + "%"
            values += [pattern, pattern]
        if favourites:
            condition += " AND favourites.path IS NOT NULL"
        if min_rating:
            condition += " AND coalesce(rating, 0) >= ?"
            values.append(min_rating)
        query = (
            "SELECT tiles.path, batch, number, seed, sha256, prompt, negative, label,"
            " favourites.path IS NOT NULL, coalesce(rating, 0) FROM tiles"
            " LEFT JOIN favourites ON favourites.path = tiles.path LEFT JOIN ratings ON ratings.path = tiles.path"
            f" WHERE {condition} ORDER BY batch, number LIMIT ? OFFSET ?"
        )

        def find(connection: sqlite3.Connection) -> list[Tile]:
            self._refresh(connection, "batches", indexing.FAVOURITES, indexing.RATINGS)
            rows = connection.execute(query, [*values, limit, offset])
            return [Tile(*(*row[:8], bool(row[8]), row[9])) for row in rows]

        return self._ask(find)

    def set_favourite(self, path: str, favourite: bool = True) -> None:
        """Say whether a tile is a favourite; the path is relative to the workspace."""
        record = {"path": path, "favourite": favourite, "at": round(time.time(), 3)}
        files.append_record(self.workspace.root / indexing.FAVOURITES, record)

    def rate(self, path: str, rating: int, **more: Any) -> None:
        """Rate a tile from 1 to 5, or take the rating back with 0; `more` is kept beside it.

        Raises:
            UsageError: the rating is none of these.
        """
        if not 0 <= rating <= 5:
            raise UsageError(f"{rating} is no rating.", "Give 1 to 5, or 0 for none.")
        record = {**more, "path": path, "rating": rating, "at": round(time.time(), 3)}
        files.append_record(self.workspace.root / indexing.RATINGS, record)

    def favourites(self) -> list[str]:
        """Paths of all favourites, relative to the workspace."""

        def find(connection: sqlite3.Connection) -> list[str]:
            self._refresh(connection, indexing.FAVOURITES)
            return [row[0] for row in connection.execute("SELECT path FROM favourites ORDER BY path")]

        return self._ask(find)

    def ratings(self) -> dict[str, int]:
        """The rating of each tile that has one."""

        def find(connection: sqlite3.Connection) -> dict[str, int]:
            self._refresh(connection, indexing.RATINGS)
            return dict(connection.execute("SELECT path, rating FROM ratings ORDER BY path"))

        return self._ask(find)

    def measures(self) -> list[tuple[str, MetricMeasured]]:
        """Every figure measured, with the folder of its run or evaluation relative to the workspace."""

        def find(connection: sqlite3.Connection) -> list[tuple[str, MetricMeasured]]:
            self._refresh(connection, "evaluations", "runs")
            rows = connection.execute("SELECT * FROM measures ORDER BY path, rowid")
            return [(path, MetricMeasured(*figure)) for path, *figure in rows]

        return self._ask(find)

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the index; nothing where it is whole or not there."""
        if not self.workspace.catalog_path.is_file():
            return []
        try:
            with closing(_connect(self.workspace.catalog_path)) as connection:
                found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
                connection.execute("INSERT INTO captions (captions) VALUES ('integrity-check')")
                return found
        except sqlite3.Error as error:
            return [] if _primary_code(error) in _NOT_WRITABLE else [str(error)]

    def _refresh(self, connection: sqlite3.Connection, *kinds: str) -> None:
        for name in indexing.outdated(connection, self.workspace, kinds):
            indexing.index(connection, self.workspace, name)

    def _ask(self, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Ask the index. A broken one is made again first; where none may be written, one in memory serves."""
        try:
            with self._connection() as connection:
                return question(connection)
        except sqlite3.DatabaseError as error:
            code = _primary_code(error)
            if code in _NOT_WRITABLE:
                self._in_memory = _connect(":memory:")
            elif code in _BROKEN:
                self.rebuild()
            else:
                raise
        with self._connection() as connection:
            return question(connection)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._in_memory is not None:
            with self._lock:
                yield self._in_memory
        else:
            with closing(_connect(self.workspace.catalog_path)) as connection:
                yield connection


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's code of an error, without its extension."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _connect(path: Path | str) -> sqlite3.Connection:
    # Each change is one explicit transaction, see `indexing.index`.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # The default rollback journal, as write-ahead logging needs shared memory and fails over NFS.
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _both(*pairs: tuple[str, str]) -> tuple[str, list[Any]]:
    """A condition that each column has its value, where one is given."""
    given = [(column, value) for column, value in pairs if value]
    return " AND ".join(f"{column} = ?" for column, _ in given) or "1", [indexing.clean(value) for _, value in given]
