"""Runs side by side: what fits, what may be ranked, and what is left out."""

from pathlib import Path
from typing import Any

import pytest

from screens.compare_runs import CompareRunsScreen
from screens.shell import StudioApp
from screens.widgets.job_table import JobTable
from screens.widgets.words import Words
from studio import config
from studio.events import CheckpointSaved, Finished, MetricMeasured, Started, StepDone, Validated
from studio.settings import TrainSettings
from studio.workspace import Workspace
from tests.screens.conftest import SIZES, looked, until
from tests.screens.journals import Record, write_journal


def with_measured(workspace: Workspace, name: str, losses: dict[int, float], **settings: Any) -> Path:
    """A completed run of 1,000 steps with validation losses at some of them."""
    folder = workspace.runs / name
    settings = {"data": {"name": "land-cover"}, **settings}
    told = TrainSettings.model_validate(settings).model_dump(mode="json", exclude_none=True)
    config.save(folder / "config.toml", Record(kind="train", settings=told))
    events: list[Any] = [Started("train", "cpu", 0, 1000)]
    events += [Validated(step, loss) for step, loss in losses.items()]
    events += [StepDone(1000, 0.2, 1e-4, 1.0, 4, 4000.0), CheckpointSaved(1000, "checkpoints/step-001000")]
    events += [MetricMeasured("kid", 0.0421, 0, 16, "scenes", "", "", None, 1000), Finished("completed")]
    write_journal(folder, events)
    return folder


def rows(table: JobTable) -> list[dict[str, str]]:
    names = [str(column.label) for column in table.ordered_columns]
    return [
        dict(zip(names, map(str, table.get_row_at(place)), strict=True)) for place in range(table.row_count)
    ]  # fmt: skip


async def open_table(app: StudioApp, pilot: Any) -> JobTable:
    await looked(pilot)
    await pilot.press("c")
    await until(pilot, lambda: isinstance(app.screen, CompareRunsScreen) and app.screen.query(JobTable))
    table = app.screen.query_one(JobTable)
    await until(pilot, lambda: table.row_count and table.size.width)
    return table


@pytest.mark.parametrize("size", SIZES)
async def test_every_figure_fits_whatever_differs(app: StudioApp, size: tuple[int, int]) -> None:
    for number in (1, 2):
        optimiser = {"learning_rate": number * 1e-4, "steps": number * 1000, "batch": number * 4}
        name = f"000{number}-a-run-of-a-long-name-{number}"
        with_measured(app.workspace, name, {500: 0.2}, optimiser=optimiser, seed=number)
    async with app.run_test(size=size) as pilot:
        table = await open_table(app, pilot)
        assert [str(column.label) for column in table.ordered_columns][-5:] == ["step", "best↓", "at", "KID↓", "time"]
        assert table.virtual_size.width <= table.size.width
        shown = {"learning rate", "steps", "batch", "seed"} & set(rows(table)[0])
        left_out = {"learning rate", "steps", "batch", "seed"} - shown
        note = app.screen.query_one("#note", Words).said
        assert shown
        assert all(name in note for name in left_out)


async def test_only_runs_whose_losses_share_a_scale_are_ranked_together(app: StudioApp) -> None:
    with_measured(app.workspace, "0001-small", {500: 0.9}, data={"name": "land-cover", "size_px": 32})
    with_measured(app.workspace, "0002-good", {500: 0.2})
    with_measured(app.workspace, "0003-flow", {500: 0.01}, objective="flow")
    with_measured(app.workspace, "0004-better", {500: 0.1})
    async with app.run_test(size=(80, 24)) as pilot:
        table = await open_table(app, pilot)
        found = [(row[""], row["run"]) for row in rows(table)]
        assert found == [("A", "0001 small"), ("B", "0004 better"), ("B", "0002 good"), ("C", "0003 flow")]
        note = app.screen.query_one("#note", Words).said
        assert "A data land-cover" not in note
        assert "A land-cover · 32 px · starter" in note
        assert "C land-cover · 64 px · starter · objective flow" in note
        assert table.virtual_size.width <= table.size.width


async def test_the_base_before_training_is_no_runs_best(app: StudioApp) -> None:
    with_measured(app.workspace, "0001-worse", {0: 0.1, 500: 0.4, 1000: 0.3})
    with_measured(app.workspace, "0002-only-base", {0: 0.1})
    with_measured(app.workspace, "0003-learnt", {0: 0.5, 1000: 0.2})
    async with app.run_test(size=(120, 36)) as pilot:
        table = await open_table(app, pilot)
        found = [(row["run"], row["best↓"], row["at"]) for row in rows(table)]
        assert found == [
            ("0003 learnt", "0.2000", "1,000"), ("0001 worse", "0.3000", "1,000"), ("0002 only-base", "-", "-"),
        ]  # fmt: skip
        assert "! Never better than its base: 0001." in app.screen.query_one("#note", Words).said
