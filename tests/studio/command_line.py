"""The command line as a script meets it: words in, an exit code and two streams out."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """What is on stdout, which must be JSON lines and nothing else, closed by a result."""
        records = [json.loads(line, parse_constant=_no_json) for line in self.out.splitlines()]
        assert all(isinstance(record, dict) and "type" in record for record in records)
        assert [record["type"] for record in records].count("result") == 1
        assert records[-1]["type"] == "result"
        assert records[-1]["exit"] == self.code
        return records

    @property
    def result(self) -> dict[str, Any]:
        return self.records[-1]

    @property
    def error(self) -> str:
        """The error in words."""
        error = self.result["error"]
        assert set(error) == {"message", "hint"}
        return f"{error['message']} {error['hint']}"


Say = Callable[..., Answer]


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def speaker(capfd: pytest.CaptureFixture[str]) -> Say:
    def say(*words: str | Path) -> Answer:
        code = main([str(word) for word in words])
        told = capfd.readouterr()
        return Answer(code, told.out, told.err)

    return say
