"""The command palette: what makes sense now, each as "noun: verb"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from textual.app import SystemCommand
from textual.screen import Screen

from screens import wording
from screens.frame import TABS

if TYPE_CHECKING:
    from screens.shell import StudioApp

SKIPPED = ("back", "focus_next", "focus_previous", "copy_text")


def commands(app: StudioApp, screen: Screen[Any]) -> Iterator[SystemCommand]:
    """Acts of the screen, then runs, sweeps, and the studio's own."""
    from studio.sweeps import sweep_files

    noun = getattr(screen, "MODE", "") or "screen"
    for node, binding, enabled, _ in screen.active_bindings.values():
        name = binding.action.split("(")[0].split(".")[-1]
        if node is screen and enabled and binding.description and not binding.system and name not in SKIPPED:
            yield SystemCommand(
                f"{noun}: {binding.description}",
                binding.tooltip,
                lambda action=binding.action: _act(app, screen, action),
            )
    for job in app.jobs("runs")[:50]:
        # textual reads a command's title as markup.
        title = wording.title_of(job.state).replace("[", "(")
        yield SystemCommand(f"run: Open {title}", job.state.status, lambda job=job: _open(app, job))
    for path in sweep_files(app.workspace):
        name = path.stem
        title = f"sweep: Compare {name.replace('[', '(')}"
        yield SystemCommand(title, "Its runs, the best first", lambda name=name: _compare(app, name))
    for mode, title in TABS:
        yield SystemCommand(f"screen: {title}", f"Go to {title}", lambda mode=mode: app.switch_mode(mode))
    for name in sorted(app.available_themes):
        yield SystemCommand(f"theme: {name}", "Colours until the studio is left", lambda name=name: _theme(app, name))
    yield SystemCommand("studio: Help", "Every key that works here", app.action_help)
    yield SystemCommand("studio: Quit", "Leave the studio", app.action_quit)


def _act(app: StudioApp, screen: Screen[Any], action: str) -> None:
    app.call_later(screen.run_action, action)


def _open(app: StudioApp, job: Any) -> None:
    app.run_in_view = job.watch.folder
    app.switch_mode("train")


def _compare(app: StudioApp, name: str) -> None:
    from screens.compare_runs import CompareRunsScreen
    from studio.errors import StudioError
    from studio.sweeps import open_sweep

    try:
        runs = {arm.run for arm in open_sweep(app.workspace, name).arms}
    except StudioError as error:
        app.tell_error(error)
        return
    begun = [job for job in app.jobs("runs") if job.path.name.partition("-")[2] in runs]
    if begun:
        app.push_screen(CompareRunsScreen(begun))
    else:
        app.tell("None of its runs has begun.", name, "warning")


def _theme(app: StudioApp, name: str) -> None:
    app.theme = name
