import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio import files
from studio.errors import UsageError
from studio.events import Finished, Phase, StepDone, Warned, to_record
from studio.journal import Journal, JournalReader, is_locked

HOLD = """
import sys
from pathlib import Path
from studio.errors import UsageError
from studio.events import Phase
from studio.journal import Journal
sys.stdin.readline()
try:
    journal = Journal(Path(sys.argv[1]))
except UsageError:
    print("refused", flush=True)
else:
    journal.write(Phase("holding"))
    print("holds", flush=True)
    sys.stdin.readline()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that takes the journal when it is sent a line, says so, and holds it."""
    command = [sys.executable, "-c", HOLD, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0007-lora" / "events.jsonl"


def test_what_is_written_is_read_in_its_order(path: Path) -> None:
    journal = Journal(path)
    events = [Phase("Loading"), StepDone(1, 0.5, 1e-4, 1.0, 4, 0.1), Finished("completed", result={"run": "x"})]
    for event in events:
        journal.write(event)
    journal.close()
    read = JournalReader(path).read()
    assert [event for _, event in read] == events
    assert all(at > 0 for at, _ in read)


def test_a_reader_gives_only_what_is_new(path: Path) -> None:
    reader = JournalReader(path)
    assert reader.read() == []
    journal = Journal(path)
    journal.write(Phase("one"))
    assert [event for _, event in reader.read()] == [Phase("one")]
    assert reader.read() == []
    journal.write(Phase("two"))
    assert [event for _, event in reader.read()] == [Phase("two")]
    journal.close()


def test_half_a_line_is_read_when_the_rest_is_there(path: Path) -> None:
    path.parent.mkdir()
    line = files.json_line(to_record(Phase("slow disk")) | {"time": 1.0})
    reader = JournalReader(path)
    path.write_bytes(line[:10])
    assert reader.read() == []
    path.write_bytes(line)
    assert reader.read() == [(1.0, Phase("slow disk"))]


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_torn_line_is_closed_off_and_skipped(cut: int, path: Path) -> None:
    path.parent.mkdir()
    whole = files.json_line(to_record(Phase("before")) | {"time": 1.0})
    path.write_bytes(whole + files.json_line(to_record(Phase("torn")) | {"time": 2.0})[:cut])
    journal = Journal(path)
    journal.write(Phase("after"))
    journal.close()
    assert [event for _, event in JournalReader(path).read()] == [Phase("before"), Phase("after")]


@pytest.mark.parametrize(
    "line",
    [
        b"[]", b"null", b'"text"', b"\xff\xfe", b"{}", b'{"type": 3}', b'{"type": []}', b'{"type": "Unheard"}',
        b'{"type": "Phase"}', b'{"type": "Phase", "name": "x", "time": "soon"}', b"[" * 100_000,
    ],
    ids=lambda line: line[:40].decode("latin-1"),
)  # fmt: skip
def test_a_line_that_is_no_event_is_skipped(line: bytes, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(line + b"\n" + files.json_line(to_record(Warned("still read")) | {"time": 1.0}))
    assert JournalReader(path).read() == [(1.0, Warned("still read"))]


def test_fields_of_a_later_version_are_left_out(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(files.json_line(to_record(Phase("x")) | {"time": 1.0, "colour": "red"}))
    assert JournalReader(path).read() == [(1.0, Phase("x"))]


def test_a_line_that_does_not_fit_on_the_disk_is_closed_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        with pytest.raises(OSError, match="No space left"):
            journal.write(Phase("does not fit"))
    journal.write(Phase("fits"))
    journal.close()
    assert [event for _, event in JournalReader(path).read()] == [Phase("fits")]


def test_whoever_holds_a_journal_keeps_others_out(path: Path) -> None:
    journal = Journal(path)
    assert is_locked(path)
    with pytest.raises(UsageError, match="0007-lora is being worked on"):
        Journal(path)
    journal.close()
    assert not is_locked(path)


def test_looking_at_the_lock_makes_no_file(path: Path) -> None:
    assert not is_locked(path)
    assert not path.exists()


def test_a_kill_frees_the_lock_at_once(path: Path) -> None:
    with holder(path) as process:
        begin(process)
        assert told(process) == "holds"
        assert is_locked(path)
        process.kill()
        process.wait()
        assert not is_locked(path)
    Journal(path).close()


def test_of_twenty_racing_writers_exactly_one_works(path: Path) -> None:
    processes = [holder(path) for _ in range(20)]
    try:
        for process in processes:
            begin(process)
        answers = [told(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sorted(answers) == ["holds", *["refused"] * 19]
    assert [event for _, event in JournalReader(path).read()] == [Phase("holding")]
