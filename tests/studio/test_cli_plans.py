"""Class plans and grids as a script meets them, with a tiny model."""

from pathlib import Path

import pytest

from studio.workspace import make_workspace
from tests.studio.command_line import Say, speaker

PLAN = """
known_problems = "Made up."
attempts = 2
[filters]
near_duplicates = 0
artefacts = false
borders = false
[[classes]]
label = "river"
count = 2
prompts = ["one river"]
[[classes]]
label = "road"
count = 1
prompts = ["some road"]
"""


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    return speaker(capfd)


def test_a_plan_of_the_workspace_is_filled_by_its_name(say: Say, tmp_path: Path, tiny_flow: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    (workspace.plans / "mine.toml").write_text(PLAN)
    words = [workspace.root, "generate", "--plan", "mine", "--model", tiny_flow, "--steps", 1, "--as", "tiles"]
    answer = say(*words)
    assert answer.code == 0
    assert "Known: Made up." in answer.err
    assert answer.out.splitlines()[-1] == "3 of 3 tiles are in the batch tiles."
    assert (workspace.batches / "tiles" / "class-plan.toml").is_file()


def test_a_grid_is_one_command(say: Say, tmp_path: Path, tiny_flow: Path) -> None:
    words = ["grid", "--x", "steps=1,2", "--y", "seed=1..2", "--model", tiny_flow, "--prompt", "one river"]
    answer = say(tmp_path / "ws", *words)
    assert answer.code == 0
    sheet = tmp_path / "ws/batches/grid/grid.png"
    assert answer.out.splitlines()[-1] == f"4 of 4 cells are on {sheet}"
    assert sheet.is_file()
