"""Recipes, prompt files and class plans are found by their names or paths."""

from pathlib import Path

import pytest

from studio import requests, sources
from studio.control import Control
from studio.errors import SettingsError, UsageError
from studio.jobs import execute
from studio.settings import ImportSettings
from studio.sources import PromptSource
from studio.workspace import Workspace, make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with a data set of fourteen pictures."""
    workspace = make_workspace(tmp_path / "ws")
    execute(requests.import_job(workspace, ImportSettings(source="demo:14", name="demo", hold_out=4)), Control())
    return workspace


def test_a_recipe_is_found_by_name_or_file_and_takes_settings_over_it(workspace: Workspace) -> None:
    by_name = sources.load_recipe(workspace, "lora", "demo", ["steps=7", "rank=2"])
    by_file = sources.load_recipe(workspace, str(workspace.recipes / "lora.toml"), "demo", ["steps=7", "rank=2"])
    assert by_name == by_file
    assert by_name.optimiser.steps == 7
    assert by_name.data.name == "demo"


def test_every_recipe_of_the_template_holds(workspace: Workspace) -> None:
    for name in sources.recipes(workspace):
        assert sources.load_recipe(workspace, name, "demo").data.name == "demo"


def test_a_recipe_that_is_not_there_is_told_with_the_nearest(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"no recipe named lroa.*lora"):
        sources.load_recipe(workspace, "lroa", "demo")
    with pytest.raises(UsageError, match=r"There is no recipe none/such\.toml"):
        sources.load_recipe(workspace, "none/such.toml", "demo")
    with pytest.raises(UsageError, match="cannot be read"):
        sources.load_recipe(workspace, "../", "demo")


def test_all_faults_of_a_recipe_are_told_at_once(workspace: Workspace) -> None:
    with pytest.raises(SettingsError) as caught:
        sources.load_recipe(workspace, "lora", "demo", ["steps=0", "batch=-1", "precision=fp8"])
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("count", [-1, sources.MOST_TILES + 1])
def test_a_count_that_cannot_be_meant_is_refused(count: int, workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="tiles cannot be made"):
        sources.tiles_of(workspace, PromptSource(prompt="a river"), count, 42)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (PromptSource(prompt="  "), "The prompt is empty"),
        (PromptSource(prompt="{a|b"), "without its }"),
        (PromptSource(prompts="land-cver"), "land-cover"),
        (PromptSource(prompts="demo:hald-out"), "held-out"),
        (PromptSource(plan="none.toml"), "There is no class plan none.toml"),
        (PromptSource(plan="land-cover-388", negative="fog"), "has its own counts and negative prompts"),
    ],
)
def test_prompts_that_lead_nowhere_are_told(source: PromptSource, told: str, workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=told):
        sources.tiles_of(workspace, source, 0, 42)


def test_tiles_come_from_a_book_a_split_or_a_file(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a river\n\na {forest|town}\n")
    assert len(sources.tiles_of(workspace, PromptSource(prompts=str(tmp_path / "prompts.txt")), 0, 1)) == 3
    assert len(sources.tiles_of(workspace, PromptSource(prompts="demo:held-out"), 0, 1)) == 4
    assert sources.tiles_of(workspace, PromptSource(prompts="land-cover"), 0, 1)
