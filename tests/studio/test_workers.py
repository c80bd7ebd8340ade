import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio import jobs
from studio.control import Control
from studio.events import Event, Finished
from studio.journal import Journal
from studio.runs import state_of
from studio.workers import DeviceWorker
from studio.workspace import Workspace
from tests.fakes import FakeTraining, fake_run


@pytest.fixture
def worker() -> Iterator[DeviceWorker]:
    worker = DeviceWorker("cpu")
    yield worker
    worker.close()
    worker._thread.join(10)
    assert not worker._thread.is_alive()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_jobs_are_done_one_after_the_other_on_a_thread_of_their_own(
    worker: DeviceWorker, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining(steps=2)
    threads = []

    def kind(context: jobs.Context) -> jobs.Done:
        threads.append(threading.current_thread())
        return training(context)

    monkeypatch.setitem(jobs.KINDS, "train", kind)
    runs = [fake_run(workspace, f"run-{n}") for n in range(3)]
    for job in runs:
        worker.submit(job, Control())
    assert worker.join(10)
    assert worker.waiting == 0
    assert {state_of(job.folder.path).status for job in runs} == {"completed"}
    assert len(set(threads)) == 1
    assert threads[0] is not threading.main_thread()


def test_a_job_at_work_and_those_behind_it_are_waiting(
    worker: DeviceWorker, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining(steps=2, hold_at=1)
    monkeypatch.setitem(jobs.KINDS, "train", training)
    worker.submit(fake_run(workspace), Control())
    worker.submit(fake_run(workspace), Control())
    assert training.arrived.wait(10)
    assert worker.waiting == 2
    assert not worker.join(0)
    training.let_go.set()
    assert worker.join(10)


def test_a_job_that_another_process_does_is_told_as_failed(worker: DeviceWorker, workspace: Workspace) -> None:
    job, seen = fake_run(workspace), []  # type: ignore[var-annotated]
    journal = Journal(job.folder.journal_path)
    worker.submit(job, Control(), seen.append)
    assert worker.join(10)
    journal.close()
    assert [(event.outcome, event.exit_code) for event in seen] == [("failed", 2)]


def test_a_job_that_cannot_even_be_recorded_does_not_hold_up_the_next(
    worker: DeviceWorker, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=2))
    broken, whole = fake_run(workspace), fake_run(workspace)
    broken.folder.journal_path.mkdir()
    seen: list[Event] = []
    worker.submit(broken, Control(), seen.append)
    worker.submit(whole, Control())
    assert worker.join(10)
    [told] = seen
    assert isinstance(told, Finished)
    assert told.outcome == "failed"
    assert "Is a directory" in told.message
    assert state_of(whole.folder.path).status == "completed"
