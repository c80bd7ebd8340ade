"""metrics.csv: one row for each step, a column for each figure, empty where it was not measured."""

import csv
from pathlib import Path
from typing import IO

from studio import files
from studio.training.curves import OF_EACH_STEP, Row

_FIRST = ("step", "time", *OF_EACH_STEP, "validation_loss")


class CsvLog:
    """A row is written when the next step begins, since measures of a step come after it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns = list(_FIRST)
        self._file: IO[str] | None = None
        self._row: Row | None = None

    def begin(self, rows: list[Row]) -> None:
        self.close()
        names = dict.fromkeys(name for row in rows for name in row.values)
        self._columns = [*_FIRST, *(name for name in names if name not in _FIRST)]
        self._write([self._cells(row) for row in rows])

    def add(self, step: int, at: float, values: dict[str, float]) -> None:
        if self._row is not None and self._row.step != step:
            self._finish()
        if self._row is None:
            self._row = Row(step, at)
        self._row.values.update(values)

    def close(self) -> None:
        self._finish()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _finish(self) -> None:
        """Write the row in hand."""
        if self._row is None:
            return
        row, self._row = self._row, None
        missing = [name for name in row.values if name not in self._columns]
        if missing:
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            self._columns += missing
            self._write(rows)
        assert self._file is not None
        self._writer().writerow(self._cells(row))
        self._file.flush()

    def _write(self, rows: list[dict[str, str]]) -> None:
        """Write the whole file, and hold it open for more."""
        if self._file is not None:
            self._file.close()
        with files.replacing(self._path) as whole:
            self._file = whole.open("w", newline="", encoding="utf-8")
            self._writer().writeheader()
            self._writer().writerows(rows)
            self._file.close()
        self._file = self._path.open("a", newline="", encoding="utf-8")

    def _writer(self) -> "csv.DictWriter[str]":
        assert self._file is not None
        return csv.DictWriter(self._file, self._columns, lineterminator="\n")

    def _cells(self, row: Row) -> dict[str, str]:
        figures = {name: repr(value) for name, value in row.values.items()}
        return {"step": str(row.step), "time": f"{row.at:.3f}"} | figures
