"""Grids made with tiny models: every cell a tile of its own, and one sheet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from studio import files, requests, sources
from studio.control import Control
from studio.errors import UsageError
from studio.events import Event, ImageSaved, Phase, Warned
from studio.generation.generate import reproduce
from studio.images import read_recipe
from studio.settings import GenerateSettings, GridSettings
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import Watch, ignore, make_dataset, run, settings, train


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("grids") / "workspace")


def grid(
    workspace: Workspace, model: Path | str, name: str, watch: Watch = ignore, **axes: str
) -> tuple[Any, list[Event], Path]:
    values = {"prompt": "one river", "tiles": {"model": str(model), "steps": 2, "batch": 2}} | axes
    job = requests.grid_job(workspace, GridSettings.model_validate(values), name)
    return *run(job, watch), job.folder.path


def recipes(folder: Path) -> list[dict[str, Any]]:
    return [read_recipe(path) for path in sorted((folder / "tiles").glob("*.png"))]


def test_every_cell_is_a_tile_with_its_own_recipe(workspace: Workspace, tiny_flow: Path) -> None:
    finished, _, folder = grid(workspace, tiny_flow, "axes", x="steps=1,2,3", y="guidance=1,2.5", z="seed=4,5")
    assert finished.result == {"batch": "axes", "requested": 12, "saved": 12, "sheet": str(folder / "grid.png")}
    made = recipes(folder)
    assert [(one["steps"], one["guidance"], one["seed"]) for one in made] == [
        (steps, guidance, seed) for seed in (4, 5) for guidance in (1.0, 2.5) for steps in (1, 2, 3)
    ]
    assert [one["index"] for one in made] == list(range(12))
    cells = json.loads((folder / "grid.json").read_text())["cells"]
    assert [(cell["settings"]["steps"], cell["place"]) for cell in cells[:4]] == [
        (1, [0, 0, 0]), (2, [1, 0, 0]), (3, [2, 0, 0]), (1, [0, 1, 0]),
    ]  # fmt: skip
    assert reproduce(workspace, folder / "tiles/000005.png", "cpu")["identical"]
    assert files.manifest_faults(folder) == []


def test_the_sheet_shows_each_cell_in_its_place(workspace: Workspace, tiny_flow: Path) -> None:
    _, _, folder = grid(workspace, tiny_flow, "sheet", x="seed=1,2", y="prompt=one {road|forest}")
    with Image.open(folder / "grid.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    # 32 px tiles are shown six times as large; each is somewhere whole, left before right and above before below.
    found = []
    for number in range(1, 5):
        with Image.open(folder / f"tiles/{number:06d}.png") as tile:
            large = np.asarray(tile.resize((192, 192), Image.Resampling.NEAREST))
        corners = np.argwhere((sheet[:-191, :-191] == large[0, 0]).all(2))
        found.append(next((x, y) for y, x in corners if (sheet[y : y + 192, x : x + 192] == large).all()))
    (x1, y1), (x2, y2), (x3, y3), (x4, y4) = found
    assert x1 == x3 < x2 == x4
    assert y1 == y2 < y3 == y4
    assert x1 >= 192, "there is room for the rows' prompts"


def test_a_stopped_grid_goes_on_where_it_was(workspace: Workspace, tiny_flow: Path) -> None:
    def watch(event: Event, control: Control) -> None:
        if isinstance(event, ImageSaved) and event.index == 2:
            control.ask("stop")

    axes = {"x": "steps=1,2", "y": "seed=1..3"}
    _, _, whole = grid(workspace, tiny_flow, "undisturbed", **axes)
    stopped, _, folder = grid(workspace, tiny_flow, "parted", watch, **axes)
    assert stopped.outcome == "stopped"
    assert not (folder / "grid.png").exists()
    finished, events, _ = grid(workspace, tiny_flow, "parted", **axes)
    assert finished.outcome == "completed"
    assert 2 not in [event.index for event in events if isinstance(event, ImageSaved)]
    for name in ("tiles/000001.png", "tiles/000006.png", "grid.png"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_bases_stand_beside_what_was_tuned_from_them(workspace: Workspace, tiny_flow: Path, tiny_epsilon: Path) -> None:
    make_dataset(workspace)
    train(workspace, settings(tiny_flow, steps=2), "of-flow")
    train(workspace, settings(tiny_epsilon, steps=2), "of-epsilon")
    finished, events, folder = grid(
        workspace, "starter", "compared", x="model=of-flow,of-epsilon", y="weights=base,tuned", z="seed=1,2"
    )
    assert finished.result["saved"] == 8
    assert [one["model"] for one in recipes(folder)] == 2 * [
        str(tiny_flow), str(tiny_epsilon), "0001-of-flow@2", "0002-of-epsilon@2",
    ]  # fmt: skip
    opened = [event for event in events if isinstance(event, Phase) and event.name == "Opening the model"]
    assert len(opened) == 4, "each model is opened once, for both blocks"


def test_a_cell_of_too_many_steps_leaves_no_batch(workspace: Workspace, tiny_flow: Path) -> None:
    told = {"model": str(tiny_flow), "steps": 60}
    settings = GridSettings.model_validate({"x": "sampler=euler,lcm", "prompt": "one river", "tiles": told})
    with pytest.raises(UsageError, match="The cell lcm has 1 fault: steps: lcm takes 50 steps at most"):
        requests.grid_job(workspace, settings, "too-many")
    assert not (workspace.batches / "too-many").exists()


def test_a_grid_tells_once_what_does_nothing(workspace: Workspace, tiny_flow: Path) -> None:
    told = {"model": str(tiny_flow), "steps": 2, "guidance": 1}
    values = {"x": "sampler=ddim,euler", "prompt": "one river", "negative": "fog", "tiles": told}
    _, events = run(requests.grid_job(workspace, GridSettings.model_validate(values), "unguided"))
    warned = [event.message for event in events if isinstance(event, Warned)]
    assert warned == ["The negative prompt does nothing at guidance 1."]


def test_a_loras_strength_can_be_an_axis(workspace: Workspace, tiny_flow: Path) -> None:
    make_dataset(workspace, name="other")
    train(workspace, settings(tiny_flow, steps=4, learning_rate=0.1, data={"name": "other"}), "strong")
    told = {"model": str(tiny_flow), "loras": ["strong:1"], "steps": 2, "batch": 2}
    job = requests.grid_job(
        workspace, GridSettings.model_validate({"x": "lora=0,0.5,1", "prompt": "one river", "tiles": told}), "strengths"
    )
    run(job)
    _, _, alone = grid(workspace, tiny_flow, "without", x="steps=2")
    _, _, tuned = grid(workspace, "strong", "with", x="steps=2")

    def pixels(folder: Path, number: int = 1) -> np.ndarray:
        with Image.open(folder / f"tiles/{number:06d}.png") as image:
            return np.asarray(image).astype(int)

    none, half, full = (pixels(job.folder.path, number) for number in (1, 2, 3))
    assert np.abs(none - pixels(alone)).max() <= 1
    assert np.abs(full - pixels(tuned)).max() <= 1
    assert np.abs(half - none).max() > 1
    assert np.abs(half - full).max() > 1


def test_a_name_of_another_kind_of_work_is_not_taken_over(workspace: Workspace, tiny_flow: Path) -> None:
    def watch(event: Event, control: Control) -> None:
        control.ask("stop")

    grid(workspace, tiny_flow, "mine", watch, x="steps=1,2")
    source = sources.PromptSource(prompt="a river")
    tiles = sources.tiles_of(workspace, source, 1, 1)
    with pytest.raises(UsageError, match="The name mine is taken"):
        requests.generate_job(workspace, GenerateSettings(model=str(tiny_flow)), tiles, "mine")
