"""What can be said of a prompt while it is written: choices, tokens, suggestions; asked on a thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from screens import run_facts
from studio.errors import StudioError
from studio.workspace import STARTER, Workspace


@dataclass(frozen=True)
class Looked:
    """What was found out about a prompt."""

    prompts: int
    tokens: str
    is_too_long: bool
    fault: str
    suggestions: tuple[tuple[str, str], ...]


def look_at(workspace: Workspace, text: str, model: str, seed: int) -> Looked:
    """Write out choices, count tokens as the model would, and find suggestions; runs on a thread."""
    from studio.prompts import choices

    fault, prompts = "", [text]
    try:
        prompts = choices.expand(text)
    except StudioError as error:
        fault = error.message
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
