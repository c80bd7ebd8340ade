import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio import jobs
from studio.errors import SettingsError, UsageError
from studio.events import Event, StepDone
from studio.runs import state_of
from studio.session import STOP_SIGNALS, Session, stop_on_signals
from studio.workspace import make_workspace
from tests.fakes import FakeTraining, fake_run


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(make_workspace(tmp_path / "ws"))
    yield session
    session.stop_all()
    assert session.wait(10)
    session.close()


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTraining]:
    training = FakeTraining(steps=5, hold_at=3)
    monkeypatch.setitem(jobs.KINDS, "train", training)
    yield training
    training.let_go.set()


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_opening_names_every_fault_of_the_settings(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    workspace.settings_path.write_text('schema = 9\ndevice = "x"\nbogus = 1\n')
    with pytest.raises(SettingsError) as caught:
        Session(workspace)
    assert {path for path, _ in caught.value.faults} == {"schema", "device", "bogus"}


def test_a_started_job_can_be_stopped_and_taken_up_again(session: Session, training: FakeTraining) -> None:
    job = fake_run(session.workspace)
    session.start(job)
    assert training.arrived.wait(10)
    assert session.waiting == 1
    session.ask(job.folder, "stop")
    assert session.wait(10)
    assert state_of(job.folder.path).status == "stopped"

    training.hold_at = 0
    session.start(job)
    assert session.wait(10)
    assert state_of(job.folder.path).status == "completed"


def test_stopping_everything_reaches_jobs_that_have_not_begun(session: Session, training: FakeTraining) -> None:
    first, second = fake_run(session.workspace), fake_run(session.workspace)
    session.start(first)
    session.start(second)
    assert training.arrived.wait(10)
    session.stop_all()
    assert session.wait(10)
    assert [state_of(job.folder.path).status for job in (first, second)] == ["stopped", "stopped"]


def test_a_job_that_has_ended_cannot_be_asked_for_anything(session: Session, training: FakeTraining) -> None:
    training.let_go.set()
    job = fake_run(session.workspace)
    session.execute(job)
    with pytest.raises(UsageError, match="is not running"):
        session.ask(job.folder, "stop")


def test_a_stop_asked_for_before_the_job_began_is_kept(session: Session, training: FakeTraining) -> None:
    seen: list[Event] = []
    assert session.execute(fake_run(session.workspace), seen.append, lambda: True).outcome == "stopped"
    assert not [event for event in seen if isinstance(event, StepDone)]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_asks_for_a_stop_and_is_told(number: signal.Signals, handlers: None) -> None:
    stops: list[str] = []
    signalled = stop_on_signals(lambda: stops.append("stop"))
    assert signalled() is None
    os.kill(os.getpid(), number)
    assert stops == ["stop"]
    assert signalled() == number
