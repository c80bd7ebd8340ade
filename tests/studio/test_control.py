from pathlib import Path

import pytest

from studio import files
from studio.control import Control, ask_elsewhere


def test_a_pause_lasts_until_it_is_taken_back() -> None:
    control = Control()
    control.ask("pause")
    assert control.paused
    assert control.paused
    control.ask("resume")
    assert not control.paused


def test_a_stop_ends_a_pause() -> None:
    control = Control()
    control.ask("pause")
    control.ask("stop")
    assert control.stopping
    assert not control.paused


@pytest.mark.parametrize("request_", ["save", "preview"])
def test_what_is_wanted_once_is_done_once(request_: str) -> None:
    control = Control()
    control.ask(request_)
    assert control.take(request_)  # type: ignore[arg-type]
    assert not control.take(request_)  # type: ignore[arg-type]


def test_a_word_in_the_file_is_obeyed_and_taken_away(tmp_path: Path) -> None:
    control = Control(tmp_path / "control")
    ask_elsewhere(tmp_path, "pause")
    assert control.paused
    assert list(tmp_path.iterdir()) == []
    ask_elsewhere(tmp_path, "resume")
    assert not control.paused
    ask_elsewhere(tmp_path, "stop")
    assert control.stopping
    assert control.stopping


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"explode", b"STOP", b"x" * 100_000])
def test_what_is_no_request_is_taken_away_and_changes_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "control").write_bytes(content)
    control = Control(tmp_path / "control")
    assert not control.stopping
    assert not control.paused
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_comes_while_another_is_read_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control(tmp_path / "control")
    read_text = Path.read_text

    def slow_read(path: Path, *options: str) -> str:
        text = read_text(path, *options)
        if text == "save\n":
            files.write_text(tmp_path / "control", "stop\n")
        return text

    ask_elsewhere(tmp_path, "save")
    monkeypatch.setattr(Path, "read_text", slow_read)
    assert control.take("save")
    assert control.stopping


def test_waiting_ends_when_something_is_asked_for() -> None:
    control = Control()
    control.ask("resume")
    control.wait(60)  # would last a minute


def test_a_control_without_a_file_hears_its_own_process_only(tmp_path: Path) -> None:
    ask_elsewhere(tmp_path, "stop")
    assert not Control().stopping
