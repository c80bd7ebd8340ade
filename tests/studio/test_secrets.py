import copy
import json
import pickle
import traceback
from pathlib import Path

import pytest

from studio.errors import UsageError
from studio.secrets import Secret, find_secret

KEY = "hf_canary_0123456789"


def test_a_secret_gives_its_key_only_when_asked() -> None:
    assert Secret(KEY).reveal() == KEY


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{!r:>40}".format, lambda one: f"{[one]} {{'key': {one}}}"])
def test_a_secret_never_prints(show: object) -> None:
    assert callable(show)
    assert KEY not in show(Secret(KEY))


def test_a_secret_is_not_in_a_traceback() -> None:
    try:
        raise ValueError(Secret(KEY))
    except ValueError:
        assert KEY not in traceback.format_exc()


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy, json.dumps, vars])
def test_a_secret_is_not_written_anywhere(write: object) -> None:
    assert callable(write)
    with pytest.raises(TypeError):
        write(Secret(KEY))


def test_the_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "HF_TOKEN").write_text("of the file")
    (tmp_path / "HF_TOKEN").chmod(0o600)
    monkeypatch.setenv("HF_TOKEN", KEY)
    found = find_secret("HF_TOKEN", tmp_path)
    assert found is not None
    assert found.reveal() == KEY


def test_a_file_of_its_owner_alone_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "HF_TOKEN").write_text(f"{KEY}\n")
    (tmp_path / "HF_TOKEN").chmod(0o600)
    found = find_secret("HF_TOKEN", tmp_path)
    assert found is not None
    assert found.reveal() == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "HF_TOKEN").write_text(KEY)
    (tmp_path / "HF_TOKEN").chmod(mode)
    with pytest.raises(UsageError, match="chmod 600") as refused:
        find_secret("HF_TOKEN", tmp_path)
    assert KEY not in str(refused.value)


def test_where_there_is_no_key_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert find_secret("HF_TOKEN", tmp_path) is None
