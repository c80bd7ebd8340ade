from pathlib import Path

import pytest

from studio import files
from studio.errors import UsageError
from studio.events import Finished, Started, StepDone, Validated, Warned, to_record
from studio.journal import Journal
from studio.listing import followed, machine_facts, newest_run, run_records
from studio.workspace import Workspace
from tests.fakes import fake_run


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def record(folder: Path, *events: object) -> None:
    lines = [files.json_line(to_record(event) | {"time": 1.0}) for event in events]  # type: ignore[arg-type]
    (folder / "events.jsonl").write_bytes(b"".join(lines))


def test_a_run_is_listed_with_what_it_is_and_how_far_it_is(workspace: Workspace) -> None:
    run = fake_run(workspace, "mine").folder.path
    step = StepDone(2, 0.5, 1e-4, 1.0, 4, 0.1)
    record(run, Started("train", "cpu", 0, 9), Validated(0, 0.9), Validated(1, 0.7), Validated(2, 0.8), step)
    [listed] = run_records(workspace)
    expected = {
        "run": "0001-mine", "number": 1, "name": "mine", "status": "interrupted", "base": "starter", "method": "lora",
        "step": 2, "steps": 9, "loss": 0.5, "validation_loss": 0.8, "best_step": 1, "device": "cpu", "updated": 1.0,
    }  # fmt: skip
    assert listed == listed | expected


@pytest.mark.parametrize("content", [None, "", "= broken", "settings = 3", "[settings]\ndata = 3\nmethod = 4"])
def test_a_run_with_broken_settings_is_still_listed(content: str | None, workspace: Workspace) -> None:
    path = workspace.runs / "0001-mine"
    path.mkdir(parents=True)
    if content is not None:
        (path / "config.toml").write_text(content)
    [listed] = run_records(workspace)
    assert (listed["status"], listed["data"]) == ("new", None)


def test_the_newest_run_is_that_of_the_highest_number(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="no runs"):
        newest_run(workspace)
    for name in ("0002-b", "10000-c", "9999-d"):
        (workspace.runs / name).mkdir(parents=True)
    assert newest_run(workspace).name == "10000-c"


def test_following_tells_every_event_in_json_and_words(workspace: Workspace) -> None:
    run = fake_run(workspace).folder.path
    record(run, Started("train", "cpu"), Warned("evil \x1b[31m text\nof two lines"), Finished("completed"))
    told = list(followed(run))
    assert [one["type"] for one, _ in told] == ["Started", "Warned", "Finished"]
    assert told[1][0]["message"] == "evil \x1b[31m text\nof two lines"
    for _, text in told:
        assert "\x1b" not in text
        assert "\n" not in text


def test_following_goes_on_until_the_run_ends(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run(workspace).folder.path
    journal = Journal(run / "events.jsonl")
    journal.write(Started("train", "cpu"))
    events = [Warned("one"), Finished("completed")]
    monkeypatch.setattr("studio.listing.time.sleep", lambda seconds: journal.write(events.pop(0)))
    assert [one["type"] for one, _ in followed(run)] == ["Started", "Warned", "Finished"]
    journal.close()


def test_the_machine_is_told_without_a_workspace(tmp_path: Path) -> None:
    facts = dict(machine_facts(tmp_path / "none" / "such"))
    assert facts["workspace"].endswith("(not there yet)")
    assert "GiB free" in facts["disk"]
    assert {"rs-studio", "python", "torch", "cpu", "starter", "terminal"} <= set(facts)
