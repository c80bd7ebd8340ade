"""Axes of a grid as people write them, and the cells that they make; no model is opened."""

from pathlib import Path

import pytest

from studio.errors import UsageError
from studio.generation.axes import Axis, parse_axis, plan_grid, read_grid, varied_settings
from studio.generation.grid_sheet import wrapped
from studio.settings import GridSettings
from studio.workspace import Workspace


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("steps=10,20, 50", "steps", ("10", "20", "50")),
        ("seed=1430..1433", "seed", ("1430", "1431", "1432", "1433")),
        ("seed=7,1..2", "seed", ("7", "1", "2")),
        ("sampler=ddim,dpm++2m", "sampler", ("ddim", "dpm++2m")),
        ("prompt=a {river, wide|forest}", "prompt", ("a river, wide", "a forest")),
        ("model=a/b,c", "model", ("a/b", "c")),
        ("guidance=2.5", "guidance", ("2.5",)),
        ("negative={blur|}", "negative", ("blur", "")),
    ],
)
def test_an_axis_is_a_name_and_values(text: str, name: str, values: tuple[str, ...]) -> None:
    assert parse_axis(text) == Axis(name=name, values=values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step=1,2", "Did you mean steps"),
        ("count=1,2", "no setting of a grid named count"),
        ("steps=", "lacks values"),
        ("steps", "lacks values"),
        ("steps=1,,2", "lacks values"),
        ("negative=", "Write negative={one|another}"),
        ("prompt={a|}", "Write prompt={one|another}"),
        ("seed=1..5000", "at most 1,000 values in a range"),
        ("steps=5..1", "runs backwards. Write 1..5"),
        ("steps=1,1", "has a value twice"),
        ("seed=2,1..3", "has a value twice"),
        ("prompt=a {b", "without its }"),
    ],
)
def test_an_axis_that_cannot_be_meant_is_told(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_axis(text)


def test_everything_that_is_offered_can_be_varied() -> None:
    assert {"steps", "guidance", "sampler", "seed", "model", "prompt", "weights", "lora", "rescale"} <= {
        *varied_settings()
    }


def test_columns_change_fastest_then_rows_then_blocks(made_workspace: Workspace, tiny_flow: Path) -> None:
    told = GridSettings.model_validate(
        {"x": "steps=2,4", "y": "seed=1..3", "z": "prompt=a {river|road}", "negative": "fog"}
        | {"tiles": {"model": str(tiny_flow), "guidance": 3}}
    )
    grid = plan_grid(made_workspace, told)
    assert [cell.place for cell in grid.cells[:3]] == [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
    assert [(cell.settings.steps, cell.settings.seed, cell.prompt) for cell in grid.cells[5:8]] == [
        (4, 3, "a river"),
        (2, 1, "a road"),
        (4, 1, "a road"),
    ]
    assert {(cell.negative, cell.settings.guidance) for cell in grid.cells} == {("fog", 3.0)}
    assert [cell.index for cell in grid.cells] == list(range(12))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"x": "steps=2,4"}, "The prompt is empty"),
        ({"x": "steps=2", "y": "steps=4", "prompt": "a"}, "Two axes are of steps"),
        ({"x": "seed=1..999", "y": "steps=1..3", "prompt": "a"}, "2,997 cells"),
        ({"x": "steps=2,0", "prompt": "a"}, "The cell 0 has 1 fault: steps"),
        ({"x": "sampler=magic", "prompt": "a"}, "sampler"),
        ({"x": "model=stater", "prompt": "a"}, "starter"),
        ({"x": "weights=base,tuned", "prompt": "a", "tiles": {"model": "gone"}}, "no model named gone"),
        ({"x": "weights=base,tuned", "prompt": "a"}, "starter is no run, .* --model RUN"),
        ({"x": "weights=old", "prompt": "a"}, "kind of weights"),
        ({"x": "lora=0,1", "prompt": "a"}, "needs a LoRA"),
    ],
)
def test_a_grid_that_cannot_be_made_is_told(told: dict[str, object], said: str, made_workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=said):
        plan_grid(made_workspace, GridSettings.model_validate(told))


def test_a_file_that_is_no_grid_is_told(tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read as a grid"):
        read_grid(tmp_path / "grid.json")


def test_every_cell_has_a_heading_that_says_what_is_its_own() -> None:
    assert parse_axis("negative={blur|}").headings == ["blur", "negative none"]
    assert parse_axis("prompt=a {river|road}").headings == ["a river", "a road"]
    assert parse_axis("steps=1,2").headings == ["steps 1", "steps 2"]


def test_long_headings_are_broken_and_cut() -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(12)
    lines = wrapped("a satellite image of " + "very " * 60 + "dense forest", font, 120, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert all(font.getlength(line) <= 120 for line in lines)
    assert wrapped("short", font, 120, 3) == ["short"]
