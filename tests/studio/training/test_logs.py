"""Logs are what their own programs read, and tell of every step once, however often a run was killed."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from studio.context import Context
from studio.control import Control
from studio.errors import UsageError
from studio.events import Event, Finished, MetricMeasured, Phase, Started, StepDone, Validated, Warned
from studio.journal import Journal, JournalReader
from studio.runs import JobFolder
from studio.settings import SavingSettings, TrainSettings
from studio.training.curves import rows_of
from studio.training.logs import logged
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import make_dataset, resume, settings, train

Attempt = Callable[..., list[Event]]


def step(number: int, loss: float = 0.5) -> StepDone:
    return StepDone(number, loss, 1e-4, 1.0, 4, 0.25)


def metric(number: int) -> MetricMeasured:
    return MetricMeasured("kid", 0.125, 8, 8, "n", "w", "s", step=number)


@pytest.fixture
def attempt(workspace: Workspace) -> Attempt:
    """One go at a run: its events through the journal and the logs; killed where it is told so."""
    folder = JobFolder(workspace.runs / "0001-rivers")

    def go(*events: Event, logs: tuple[str, ...] = ("csv", "tensorboard"), killed: bool = False) -> list[Event]:
        told: list[Event] = []
        journal = Journal(folder.journal_path)

        def emit(event: Event) -> None:
            journal.write(event)
            told.append(event)

        saving = SavingSettings.model_validate({"logs": logs})
        context = Context(workspace, folder, TrainSettings(saving=saving), "cpu", emit, Control())
        following = logged(context)
        inner = following.__enter__()
        for event in events:
            inner.emit(event)
        if not killed:
            following.__exit__(None, None, None)
        journal.close()
        return told

    return go


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return [(one.step, round(one.value, 6)) for one in reader.Scalars(tag)]


def test_a_step_is_one_row_with_all_that_was_measured_at_it(workspace: Workspace, attempt: Attempt) -> None:
    attempt(
        Started("train", "cpu", 0, 2), Phase("Opening"), Validated(0, 0.75), step(1, 0.5), Validated(1, 0.25), step(2)
    )
    rows = table(workspace.runs / "0001-rivers")
    assert [(one["step"], one["loss"], one["validation_loss"]) for one in rows] == [
        ("0", "", "0.75"),
        ("1", "0.5", "0.25"),
        ("2", "0.5", ""),
    ]
    assert rows[1]["learning_rate"] == "0.0001"
    assert rows[1]["images"] == "4.0"


def test_a_figure_that_comes_late_gets_a_column_of_its_own(workspace: Workspace, attempt: Attempt) -> None:
    attempt(Started("train", "cpu", 0, 3), step(1), step(2), metric(2), Validated(2, 0.5, bins=[0.25, 0.75]), step(3))
    rows = table(workspace.runs / "0001-rivers")
    assert [one["kid"] for one in rows] == ["", "0.125", ""]
    assert [one["validation_loss_part_2"] for one in rows] == ["", "0.75", ""]
    assert [one["step"] for one in rows] == ["1", "2", "3"]


def test_tensorboard_reads_what_the_journal_tells(workspace: Workspace, attempt: Attempt) -> None:
    attempt(Started("train", "cpu", 0, 2), Validated(0, 0.75), step(1, 0.5), step(2, 0.25), metric(2))
    folder = workspace.runs / "0001-rivers"
    assert scalars(folder, "train/loss") == [(1, 0.5), (2, 0.25)]
    assert scalars(folder, "measured/validation_loss") == [(0, 0.75)]
    assert scalars(folder, "measured/kid") == [(2, 0.125)]


def test_a_killed_run_that_goes_on_leaves_no_gap_and_no_step_twice(workspace: Workspace, attempt: Attempt) -> None:
    """Three kills; after each the run goes on from its checkpoint, and takes steps again with other losses."""
    folder = workspace.runs / "0001-rivers"
    attempt(Started("train", "cpu", 0, 9), Validated(0, 0.9), *(step(n, 0.1) for n in range(1, 4)), killed=True)
    attempt(Started("train", "cpu", 0, 9), Validated(0, 0.9), *(step(n, 0.2) for n in range(1, 6)), killed=True)
    attempt(Started("train", "cpu", 4, 9), *(step(n, 0.3) for n in range(5, 8)), metric(6), killed=True)
    attempt(Started("train", "cpu", 6, 9), *(step(n, 0.4) for n in range(7, 10)), Finished("completed"))
    losses = [(n, 0.2 if n < 5 else 0.3 if n < 7 else 0.4) for n in range(1, 10)]
    rows = table(folder)
    assert [(int(one["step"]), float(one["loss"])) for one in rows[1:]] == losses
    assert rows[0]["step"] == "0"
    assert rows[6]["kid"] == "0.125"
    assert scalars(folder, "train/loss") == losses
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    again = rows_of(JournalReader(folder / "events.jsonl").read())
    assert [(row.step, f"{row.at:.3f}") for row in again] == [(int(one["step"]), one["time"]) for one in rows]


def test_a_run_without_logs_writes_none(workspace: Workspace, attempt: Attempt) -> None:
    attempt(Started("train", "cpu", 0, 1), step(1), logs=())
    assert [path.name for path in (workspace.runs / "0001-rivers").iterdir()] == ["events.jsonl"]


def test_a_log_that_cannot_be_written_does_not_end_the_run(workspace: Workspace, attempt: Attempt) -> None:
    folder = workspace.runs / "0001-rivers"
    (folder / "metrics.csv").mkdir(parents=True)
    told = attempt(Started("train", "cpu", 0, 1), step(1), step(2))
    warned = [one.message for one in told if isinstance(one, Warned)]
    assert len(warned) == 1
    assert "The log csv could not be written" in warned[0]
    assert scalars(folder, "train/loss") == [(1, 0.5), (2, 0.5)]


def test_a_missing_library_is_named_with_the_line_that_installs_it(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"rs-studio\[wandb\]"):
        attempt(logs=("wandb",))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    return pytest.importorskip("wandb", reason="The extra wandb is not installed.")


def test_a_wandb_run_stays_in_the_folder(workspace: Workspace, attempt: Attempt, offline: Any) -> None:
    folder = workspace.runs / "0001-rivers"
    attempt(Started("train", "cpu", 0, 2), step(1, 0.125), step(2), logs=("wandb",))
    attempt(Started("train", "cpu", 1, 2), step(2, 0.5), logs=("wandb",))
    offline.teardown()  # its own process may still be writing
    runs = list(folder.glob("wandb/offline-run-*"))
    assert len(runs) == 1
    kept = next(runs[0].glob("*.wandb")).read_bytes()
    assert [(one["step"], one["loss"]) for one in history(kept)] == [(1, 0.125), (2, 0.5)]
    assert {one.run.host for one in records_of(kept)} == {""}
    assert str(Path.home()).encode() not in kept


def history(data: bytes) -> list[dict[str, float]]:
    """The logged figures of a W&B file."""
    return [
        {one.key or one.nested_key[0]: json.loads(one.value_json) for one in record.history.item}
        for record in records_of(data)
        if record.HasField("history")
    ]


def records_of(data: bytes) -> list[Any]:
    """Seven bytes, then records of a LevelDB log: checksum, length, which part of a record."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: list[Any] = []
    place, whole = 7, b""
    while place + 7 <= len(data):
        length, part = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # whole, or the last part
            found.append(Record.FromString(whole))
            whole = b""
    return found


def test_a_real_run_that_was_stopped_and_resumed(tmp_path: Path, tiny_flow: Path) -> None:
    made = make_workspace(tmp_path / "made")
    make_dataset(made)

    def stop_at_two(event: Event, control: Control) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            control.ask("stop")

    told = settings(tiny_flow, steps=4, objective="flow")
    finished, _, folder = train(made, told, "logged", stop_at_two)
    assert finished.outcome == "stopped", finished.message
    assert [one["step"] for one in table(folder)] == ["0", "1", "2"]
    finished, _ = resume(made, "logged")
    assert finished.outcome == "completed", finished.message
    assert [one["step"] for one in table(folder)] == ["0", "1", "2", "3", "4"]
    assert [number for number, _ in scalars(folder, "train/loss")] == [1, 2, 3, 4]
