from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.exports.contact_sheet import SHEET_PIXELS, cell_size
from studio.workspace import Workspace
from tests.hostile import PAYLOADS
from tests.studio.exports.conftest import make_batch


def test_a_contact_sheet_is_one_png(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    make_batch(workspace, "river", ["a river"] * 7)
    finished, _ = run_export("river", "contact-sheet", tmp_path / "sheets" / "river.png")
    assert finished.result == {"target": str(tmp_path / "sheets" / "river.png"), "files": 1, "pictures": 7}
    with Image.open(tmp_path / "sheets" / "river.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 4 * 256
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["river.png"]


def test_hostile_prompts_make_a_contact_sheet(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    make_batch(workspace, "hostile", PAYLOADS, size_px=16)
    assert run_export("hostile", "contact-sheet", tmp_path / "sheet.png")[0].outcome == "completed"


@pytest.mark.parametrize("count", [1, 10, 388, 2_000, 9_000])
def test_a_sheet_of_any_number_stays_of_a_size_to_open(count: int) -> None:
    assert 48 <= cell_size(count) <= 256
    assert count * cell_size(count) ** 2 <= SHEET_PIXELS
