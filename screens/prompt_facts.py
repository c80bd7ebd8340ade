"""What can be said of a prompt while it is written: choices, tokens, suggestions, and how long its tiles take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from screens import run_facts
from screens.watching import Watched
from studio.errors import StudioError
from studio.events import Started
from studio.workspace import STARTER, Workspace

# What a tile's seconds depend on most, with what a form leaves empty.
PACE = {"model": "starter", "width_px": None, "height_px": None, "steps": None, "upscale": 1, "scene": False}


@dataclass(frozen=True)
class Looked:
    """What was found out about a prompt."""

    prompts: int
    tokens: str
    is_too_long: bool
    fault: str
    suggestions: tuple[tuple[str, str], ...]


def look_at(workspace: Workspace, text: str, model: str, seed: int, source: str = "") -> Looked:
    """Write out choices, count tokens as the model would, and find suggestions; runs on a thread.

    Args:
        source: a file, book or DATASET:SPLIT that gives the prompts in the text's place.
    """
    from studio.batch_folders import prompts_of
    from studio.prompts import choices

    fault, prompts = "", [text]
    try:
        told = prompts_of(workspace, source) if source else [text]
        prompts = [written for prompt in told for written in choices.expand(prompt)]
    except (StudioError, OSError) as error:
        fault = error.message if isinstance(error, StudioError) else str(error)
    tokens, is_too_long = _count_tokens(workspace, prompts, model)
    return Looked(len(prompts), tokens, is_too_long, fault, _suggestions(workspace, text, seed))


def _count_tokens(workspace: Workspace, prompts: list[str], model: str) -> tuple[str, bool]:
    from studio.prompts import tokens

    try:
        folder = model_folder(workspace, model)
        most = max((tokens.count(prompt, folder) for prompt in prompts[:64]), key=lambda one: one.used, default=None)
    except (StudioError, OSError):
        return "", False
    return (f"{most.used} / {most.limit} tokens", most.used > most.limit) if most else ("", False)


def model_folder(workspace: Workspace, model: str) -> Path:
    """The folder whose tokenizer a model uses: a run has that of its base."""
    for _ in range(10):
        try:
            run = workspace.run(model.partition("@")[0])
        except StudioError:
            break
        model = run_facts.setting(run, "base")
    return Path(model) if Path(model).is_dir() else STARTER


def _suggestions(workspace: Workspace, text: str, seed: int) -> tuple[tuple[str, str], ...]:
    from studio.prompts.suggest import suggest

    try:
        found = suggest(workspace, like=text.strip(), n=6, seed=seed)
    except StudioError:
        return ()
    return tuple((one.text, one.source) for one in found)


def seconds_for(batches: Iterable[Watched], settings: Mapping[str, Any], count: int) -> float | None:
    """How long so many tiles should take, by the newest batch of this model, size and steps that was made in one go."""
    for job in batches:
        state = job.state
        starts = sum(isinstance(event, Started) for _, event in list(state.recent))
        told = run_facts.settings_of(job.path).get("settings", {})
        in_one_go = state.kind == "generate" and state.status == "completed" and starts == 1
        if in_one_go and state.images and _pace(told) == _pace(settings):
            tried = len(state.images) + len(state.refused)
            return (state.updated_at - state.started_at) / tried * count
    return None


def _pace(settings: Mapping[str, Any]) -> dict[str, str]:
    """What two batches of one pace have in common; the step of a checkpoint is of no weight."""
    found = {name: str(settings.get(name, default) or default) for name, default in PACE.items()}
    return {**found, "model": found["model"].partition("@")[0]}
