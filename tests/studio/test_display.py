import unicodedata

import pytest

from studio.display import shown, shown_line
from tests.hostile import PAYLOADS, TERMINAL


@pytest.mark.parametrize("text", PAYLOADS, ids=ascii)
def test_nothing_that_a_terminal_acts_on_is_shown(text: str) -> None:
    categories = {unicodedata.category(sign) for sign in shown(text) if sign not in "\t\n"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_every_control_and_format_sign_is_made_visible() -> None:
    controls = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"]
    for sign in (*controls, "\u202e", "\u2066", "\u206f", "\ufeff", "\u200b", "\u2028", "\ud800", "\U000e0041"):
        assert sign not in shown(f"a{sign}b")
        assert len(shown(f"a{sign}b")) > 2


def test_what_is_shown_can_always_be_encoded() -> None:
    for text in TERMINAL:
        shown(text).encode("utf-8")


def test_plain_text_of_any_language_stays_as_it_is() -> None:
    text = "Zürich, 東京, نهر, 🛰 at 64 × 64\n\tindented"
    assert shown(text) == text


def test_markup_stays_as_it_is() -> None:
    assert shown("[/bold] [link=http://x") == "[/bold] [link=http://x"


def test_anything_can_be_shown() -> None:
    assert shown(3.5) == "3.5"
    assert shown(None) == "None"


def test_one_line_stays_one_line() -> None:
    assert shown_line("a\n b\t c\r\nd") == "a b c␍ d"
    assert "\n" not in shown_line("\n".join(PAYLOADS))


@pytest.mark.parametrize(("limit", "line"), [(0, "a long line"), (20, "a long line"), (6, "a lon…"), (1, "…")])
def test_a_line_is_cut_at_its_limit(limit: int, line: str) -> None:
    assert shown_line("a long line", limit) == line
