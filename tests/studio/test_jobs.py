from pathlib import Path
from typing import Any

import pytest

from studio import jobs
from studio.context import Context, Done
from studio.control import Control
from studio.errors import StudioError, UsageError
from studio.events import Event, Finished, Paused, Phase, Resumed, Started, StepDone
from studio.jobs import Job, execute
from studio.journal import Journal, JournalReader, is_locked
from studio.runs import state_of
from studio.workspace import Workspace
from tests.fakes import FakeTraining, fake_run


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return fake_run(Workspace(tmp_path))


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let training be what a function does."""
    return lambda function: monkeypatch.setitem(jobs.KINDS, "train", function)


def written(job: Job) -> list[Event]:
    return [event for _, event in JournalReader(job.folder.journal_path).read()]


def raising(error: BaseException) -> Any:
    def kind(context: Context) -> Done:
        context.emit(Started("train", context.device))
        raise error

    return kind


def test_a_job_done_to_its_end_is_on_record(job: Job, act: Any) -> None:
    act(FakeTraining(steps=3))
    seen: list[Event] = []
    finished = execute(job, Control(), seen.append)
    assert finished == Finished("completed", exit_code=0, result={"step": 3})
    assert written(job) == seen
    assert seen[-1] == finished
    assert not is_locked(job.folder.journal_path)


def test_a_job_asked_to_stop_ends_with_75(job: Job, act: Any) -> None:
    act(FakeTraining(steps=3))
    control = Control()
    control.ask("stop")
    finished = execute(job, control)
    assert (finished.outcome, finished.exit_code) == ("stopped", 75)
    assert state_of(job.folder.path).status == "stopped"


def test_a_stop_left_for_a_process_that_is_gone_does_not_stop_the_next(job: Job, act: Any) -> None:
    act(FakeTraining(steps=3))
    job.folder.control_path.write_text("stop\n")
    assert execute(job, Control(job.folder.control_path)).outcome == "completed"


def test_a_failure_told_in_words_stays_in_words(job: Job, act: Any) -> None:
    act(FakeTraining(steps=3, fails_at=2))
    finished = execute(job, Control())
    assert (finished.outcome, finished.message, finished.hint) == (
        "failed", "cpu ran out of memory.", "Halve the batch."
    )  # fmt: skip
    assert finished.exit_code == 1
    assert not job.folder.log_path.exists()


def test_wrong_settings_found_late_end_with_2(job: Job, act: Any) -> None:
    act(raising(UsageError("No.")))
    assert execute(job, Control()).exit_code == 2


@pytest.mark.parametrize("error", [ValueError("deep inside"), SystemExit(0), RecursionError("deep inside")])
def test_any_other_failure_has_its_traceback_in_the_log(error: BaseException, job: Job, act: Any) -> None:
    act(raising(error))
    finished = execute(job, Control())
    assert (finished.outcome, finished.exit_code) == ("failed", 1)
    assert type(error).__name__ in finished.message
    assert str(job.folder.log_path) in finished.hint
    assert "Traceback" in job.folder.log_path.read_text()


def test_a_device_out_of_memory_is_told_with_what_to_do(job: Job, act: Any) -> None:
    act(raising(type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")))
    finished = execute(job, Control())
    assert finished.message == "cpu ran out of memory."
    assert "batch" in finished.hint


def test_an_interruption_frees_the_lock_and_records_no_end(job: Job, act: Any) -> None:
    act(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        execute(job, Control())
    assert state_of(job.folder.path).status == "interrupted"


def test_nobody_works_where_somebody_does(job: Job, act: Any) -> None:
    act(raising(AssertionError("must not begin")))
    journal = Journal(job.folder.journal_path)
    with pytest.raises(UsageError, match="being worked on"):
        execute(job, Control())
    journal.close()
    assert written(job) == []


def test_a_watcher_that_fails_fails_the_job_and_not_the_process(job: Job, act: Any) -> None:
    act(FakeTraining(steps=3))

    def watch(event: Event) -> None:
        if isinstance(event, StepDone):
            raise StudioError("The screen is gone.")

    assert execute(job, Control(), watch).message == "The screen is gone."


# What a job knows of the world


def context_of(job: Job, control: Control, seen: list[Event]) -> Context:
    return Context(job.workspace, job.folder, job.settings, "cpu", seen.append, control)


def test_a_paused_job_rests_until_it_is_resumed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    control, seen = Control(), []  # type: ignore[var-annotated]
    monkeypatch.setattr(Control, "wait", lambda self: self.ask("resume"))
    control.ask("pause")
    assert not context_of(job, control, seen).should_stop(7)
    assert seen == [Paused(7), Resumed(7)]


def test_a_paused_job_can_be_stopped(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    control, seen = Control(), []  # type: ignore[var-annotated]
    monkeypatch.setattr(Control, "wait", lambda self: self.ask("stop"))
    control.ask("pause")
    assert context_of(job, control, seen).should_stop(7)
    assert seen == [Paused(7)]


def test_counting_tells_the_end_and_not_every_piece(job: Job) -> None:
    seen: list[Event] = []
    counted = context_of(job, Control(), seen).counted("Importing", 1000, range(1, 1001))
    assert sum(1 for _ in counted) == 1000
    assert seen[0] == Phase("Importing", 0, 1000)
    assert seen[-1] == Phase("Importing", 1000, 1000)
    assert len(seen) < 50


def test_every_kind_has_settings_to_be_made_from() -> None:
    from studio.requests import SETTINGS

    assert set(SETTINGS) == set(jobs.KINDS)
