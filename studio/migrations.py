"""How the catalog's tables came to be, one numbered change after the other."""

import sqlite3
from collections.abc import Callable

from studio.errors import StudioError


def m001_first_tables(connection: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE folders (path TEXT PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID",
        "CREATE VIRTUAL TABLE captions USING fts5(text, dataset UNINDEXED, file_name UNINDEXED, label UNINDEXED,"
        " split UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2')",
        "CREATE TABLE tiles (path TEXT PRIMARY KEY, batch TEXT NOT NULL, number INTEGER NOT NULL,"
        " seed INTEGER NOT NULL, sha256 TEXT NOT NULL, prompt TEXT NOT NULL, negative TEXT NOT NULL,"
        " label TEXT NOT NULL) WITHOUT ROWID",
        "CREATE INDEX tiles_of_batch ON tiles (batch, number)",
        "CREATE TABLE measures (path TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, n_real INTEGER NOT NULL,"
        " n_generated INTEGER NOT NULL, network TEXT NOT NULL, weights_sha256 TEXT NOT NULL,"
        " split_sha256 TEXT NOT NULL, floor REAL, step INTEGER, note TEXT NOT NULL)",
        "CREATE TABLE favourites (path TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE ratings (path TEXT PRIMARY KEY, rating INTEGER NOT NULL) WITHOUT ROWID",
    ):
        connection.execute(statement)


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (m001_first_tables,)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a catalog to the newest shape, all changes or none; the connection commits by itself otherwise.

    Raises:
        StudioError: a newer rs-studio made it.
    """
    if _version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have been faster
        if version > len(MIGRATIONS):
            raise StudioError(
                "The catalog of this workspace was made by a newer rs-studio.",
                "Update rs-studio, or delete catalog.db: it is made again from the files.",
            )
        for change in MIGRATIONS[version:]:
            change(connection)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
