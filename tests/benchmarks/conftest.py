"""What tests of the benchmarks share."""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Benchmarks are programs beside each other: they find one another by the folder that they lie in."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module
