"""Where settings and prompts come from: recipes, prompt files and class plans, by their names or paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import config
from studio.display import shown_line
from studio.errors import UsageError, unknown
from studio.generation.class_plan import Plan, find_plan, plan_classes, plans
from studio.generation.plans import PlannedTile, PromptLine, plan_tiles, read_prompts
from studio.settings import TrainSettings
from studio.workspace import TEMPLATE, Workspace

MOST_TILES = 1_000_000


def recipes(workspace: Workspace) -> dict[str, Path]:
    """The recipes of a workspace by name; those of the template where it has none yet."""
    folder = workspace.recipes if workspace.recipes.is_dir() else TEMPLATE / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(workspace: Workspace, name: str, data: str, sets: Sequence[str] = ()) -> TrainSettings:
    """A recipe by its name or file, for a data set, with `key=value` settings over it.

    Raises:
        UsageError: there is no such recipe or setting.
        SettingsError: every fault at once.
    """
    path = _file_named(name, "recipe") or recipes(workspace).get(name)
    if path is None:
        raise unknown("recipe", name, recipes(workspace))
    return with_sets(config.merged(config.read_toml(path), {"data": {"name": data}}), sets, str(path))


def with_sets(values: Mapping[str, Any], sets: Sequence[str], source: str) -> TrainSettings:
    """Settings of a run from plain values, with `key=value` settings over them.

    Raises:
        UsageError: there is no such setting.
        SettingsError: every fault at once.
    """
    over = config.parse_sets(list(sets), TrainSettings, values)
    if "steps" in over.get("optimiser", {}):
        over["optimiser"].setdefault("epochs", 0)  # steps that were asked for stand above a recipe's epochs
    return config.check(values, TrainSettings, source, over)


@dataclass(frozen=True)
class PromptSource:
    """Where prompts come from: one of a text, a file (or book, or DATASET:SPLIT), and a class plan's name or file."""

    prompt: str = ""
    prompts: str = ""
    plan: str = ""
    negative: str = ""


def tiles_of(workspace: Workspace, source: PromptSource, count: int, seed: int) -> list[PlannedTile]:
    """The tiles to make of prompts; a count of 0 makes one for each prompt. Of a class plan, all that may be tried.

    Raises:
        UsageError: there are no prompts, or what names them is unknown.
    """
    if not 0 <= count <= MOST_TILES:
        raise UsageError(f"{count} tiles cannot be made.", f"Give --count 1 to {MOST_TILES}.")
    plan = plan_of(workspace, source)
    if plan is not None:
        if count or source.negative:
            raise UsageError("A class plan has its own counts and negative prompts.", "Change them in its file.")
        return plan_classes(plan, seed)
    if source.prompts:
        return plan_tiles(read_prompts(workspace, source.prompts, source.negative), count, seed)
    if not source.prompt.strip():
        raise UsageError("The prompt is empty.", "Write --prompt 'a satellite image of a river'.")
    return plan_tiles([PromptLine(source.prompt, source.negative)], count, seed)


def class_plans(workspace: Workspace) -> dict[str, Path]:
    """The class plans of a workspace by name; those of the template where it has none yet."""
    return plans(workspace)


def plan_of(workspace: Workspace, source: PromptSource) -> Plan | None:
    """The class plan that a source names, if it names one; raises as `find_plan`."""
    if not source.plan:
        return None
    _file_named(source.plan, "class plan")
    return find_plan(workspace, source.plan)


def _file_named(name: str, kind: str) -> Path | None:
    """The file that a name is the path of, if it is one.

    Raises:
        UsageError: it is the path of nothing.
    """
    if not name.endswith(".toml") and "/" not in name:
        return None
    if not Path(name).exists():
        raise UsageError(f"There is no {kind} {shown_line(name)}.", f"Name a {kind} of the workspace, or a .toml file.")
    return Path(name)
