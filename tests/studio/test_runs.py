from pathlib import Path

import pytest

from studio import files
from studio.errors import UsageError
from studio.events import (
    CheckpointSaved,
    Event,
    Finished,
    ImageSaved,
    MetricMeasured,
    Paused,
    Phase,
    PreviewSaved,
    Refused,
    Resumed,
    Started,
    StepDone,
    Validated,
    Warned,
    to_record,
)
from studio.journal import Journal
from studio.runs import JobFolder, RunState, RunWatch, age, smoothed, state_of


def step(number: int, seconds: float = 0.5) -> StepDone:
    return StepDone(number, 1.0 / number, 1e-4, 1.0, 4, seconds)


def measured(at: int | None) -> MetricMeasured:
    return MetricMeasured("kid", 0.1, 50, 50, "starter-encoder", "0" * 64, "0" * 64, step=at)


def after(*events: Event) -> RunState:
    """What events add up to, one a second."""
    state = RunState(JobFolder(Path("0007-lora")))
    for at, event in enumerate(events, 1):
        state.apply(float(at), event)
    return state


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path / "0007-lora")


def record(folder: JobFolder, *events: Event) -> None:
    """Events in a journal that nobody holds."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.journal_path.open("ab") as file:
        file.writelines(files.json_line(to_record(event) | {"time": 1.0}) for event in events)


# Folders


@pytest.mark.parametrize(
    ("name", "short", "number"),
    [("0007-lora", "lora", 7), ("0007", "0007", 7), ("demo", "demo", None), ("²-x", "²-x", None), ("a-7", "a-7", None)],
)
def test_a_folder_has_a_name_and_perhaps_a_number(name: str, short: str, number: int | None) -> None:
    assert JobFolder(Path(name)).name == short
    assert JobFolder(Path(name)).number == number


def test_nobody_can_be_asked_where_nobody_works(folder: JobFolder) -> None:
    with pytest.raises(UsageError, match="0007-lora is not running"):
        folder.ask("stop")
    assert not folder.control_path.exists()


def test_a_request_is_left_for_whoever_works(folder: JobFolder) -> None:
    journal = Journal(folder.journal_path)
    folder.ask("pause")
    journal.close()
    assert folder.control_path.read_text() == "pause\n"


# What events add up to


def test_a_run_from_its_beginning_to_its_end() -> None:
    state = after(
        Started("train", "cpu", 0, 3), Phase("Loading"), step(1), step(2), Validated(2, 0.7, best=True), step(3),
        PreviewSaved(3, "previews/3.png", "a river", 1), CheckpointSaved(3, "checkpoints/step-000003"),
        Finished("completed"),
    )  # fmt: skip
    assert (state.status, state.kind, state.device, state.step, state.steps) == ("completed", "train", "cpu", 3, 3)
    assert [number for number, _ in state.losses] == [1, 2, 3]
    assert state.best == Validated(2, 0.7, best=True)
    assert state.phase is None
    assert (state.started_at, state.updated_at) == (1.0, 9.0)


def test_points_behind_the_step_resumed_from_are_dropped() -> None:
    state = after(
        Started("train", "cpu", 0, 10), *(step(number) for number in range(1, 8)),
        Validated(2, 0.9), Validated(6, 0.8), PreviewSaved(6, "p", "x", 1), measured(2), measured(6),
        CheckpointSaved(4, "checkpoints/step-000004"), CheckpointSaved(6, "lost"), Finished("failed", "killed"),
        Started("train", "cpu", 4, 10),
    )  # fmt: skip
    assert [number for number, _ in state.losses] == [1, 2, 3, 4]
    assert state.validations == [Validated(2, 0.9)]
    assert state.metrics == [measured(2)]
    assert state.checkpoints == [CheckpointSaved(4, "checkpoints/step-000004")]
    assert state.previews == []
    assert (state.status, state.step, state.from_step, state.finished) == ("running", 4, 4, None)
    assert state.last_step is None


def test_a_run_killed_and_resumed_twice_has_every_step_once() -> None:
    first = [Started("train", "cpu", 0, 9), *(step(number) for number in range(1, 6))]
    second = [Started("train", "cpu", 3, 9), *(step(number) for number in range(4, 9))]
    third = [Started("train", "cpu", 6, 9), *(step(number) for number in range(7, 10)), Finished("completed")]
    assert [number for number, _ in after(*first, *second, *third).losses] == list(range(1, 10))


def test_a_run_begun_anew_keeps_nothing() -> None:
    state = after(
        Started("train", "cpu", 0, 9), Validated(0, 1.0), step(1), measured(None), Started("train", "cpu", 0, 9)
    )
    assert (state.losses, state.validations, state.metrics) == ([], [], [])


def test_refusals_are_those_of_the_last_look_and_tiles_add_up() -> None:
    tiles = [ImageSaved(n, f"tiles/{n}.png", n, "0" * 64, "x") for n in range(3)]
    started = Started("import", "cpu")
    state = after(started, Refused("a", "no picture"), *tiles[:2], started, Refused("a", "no picture"), tiles[2])
    assert len(state.refused) == 1
    assert state.images == tiles


def test_a_pause_is_shown_and_ends() -> None:
    started = Started("train", "cpu", 0, 9)
    assert after(started, Paused(3)).status == "paused"
    assert after(started, Paused(3), Resumed(3)).status == "running"


def test_time_left_follows_the_speed_and_not_the_clock() -> None:
    state = after(Started("train", "cpu", 0, 11), step(1, seconds=2.0))
    assert state.seconds_left == 20.0
    state.apply(-1e9, step(2, seconds=2.0))
    assert state.seconds_left == 18.0
    assert after(Started("train", "cpu", 0, 11)).seconds_left is None


def test_time_left_counts_what_happens_between_steps_but_no_rest() -> None:
    state = RunState(JobFolder(Path("run")))
    state.apply(0.0, Started("train", "cpu", 0, 1000))
    for number in range(1, 401):
        state.apply(2.0 * number, step(number, seconds=1.0))  # a second of each two goes elsewhere
    assert state.seconds_left == pytest.approx(1200.0, rel=0.01)
    state.apply(801.0, Paused(400))
    state.apply(9e6, Resumed(400))
    state.apply(9e6 + 2, step(401, seconds=1.0))
    assert state.seconds_left == pytest.approx(1198.0, rel=0.01)


def test_what_is_recent_leaves_out_what_comes_by_the_hundred() -> None:
    state = after(Started("train", "cpu"), step(1), Phase("x"), Warned("look"), Refused("a", "b"))
    assert [type(event) for _, event in state.recent] == [Started, Warned]


# Following a journal


def test_a_journal_that_nobody_holds_and_that_has_no_end_was_interrupted(folder: JobFolder) -> None:
    record(folder, Started("train", "cpu", 0, 9), step(1))
    assert state_of(folder.path).status == "interrupted"


def test_a_journal_that_somebody_holds_runs(folder: JobFolder) -> None:
    journal = Journal(folder.journal_path)
    journal.write(Started("train", "cpu", 0, 9))
    assert state_of(folder.path).status == "running"
    journal.close()
    assert state_of(folder.path).status == "interrupted"


def test_an_interrupted_run_that_is_taken_up_runs_again(folder: JobFolder) -> None:
    record(folder, Started("train", "cpu", 0, 9), step(1))
    watch = RunWatch(folder)
    watch.poll()
    assert watch.state.status == "interrupted"
    journal = Journal(folder.journal_path)
    watch.poll()
    assert watch.state.status == "running"
    journal.close()


def test_an_end_written_at_the_last_moment_is_not_taken_for_an_interruption(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(folder, Started("train", "cpu", 0, 9))

    def ends_now(self: JobFolder) -> bool:
        record(folder, Finished("completed"))
        return False

    monkeypatch.setattr(JobFolder, "is_active", ends_now)
    watch = RunWatch(folder)
    assert len(watch.poll()) == 2
    assert watch.state.status == "completed"


def test_a_folder_without_a_journal_is_new(folder: JobFolder) -> None:
    assert state_of(folder.path).status == "new"


# Curves and words


def test_smoothing_keeps_a_flat_curve_flat_from_its_first_point() -> None:
    assert [round(value, 6) for _, value in smoothed((n, 0.5) for n in range(20))] == [0.5] * 20


def test_smoothing_lies_between_the_points() -> None:
    values = [value for _, value in smoothed(enumerate([1.0, 0.0] * 10))]
    assert values[0] == 1.0
    assert 0.3 < values[-1] < 0.7


@pytest.mark.parametrize(
    ("seconds", "word"), [(0, "now"), (59, "now"), (61, "1m"), (7_300, "2h"), (3 * 86_400, "3d"), (-1e9, "now")]
)
def test_age_is_one_short_word_even_where_the_clock_went_back(
    seconds: float, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.runs.time.time", lambda: 2e9)
    assert age(2e9 - seconds) == word
