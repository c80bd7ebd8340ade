"""Foreign text made safe to show: control, bidirectional and broken characters become visible signs."""

import re

# C0 but tab and newline, DEL, C1, line and paragraph separators, bidirectional controls, byte-order mark, lone
# surrogates, and the invisible format characters that hide text (zero width, tags).
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's control pictures
    if code == 0x7F:
        return "\u2421"
    return f"<{code:04X}>"


def shown(text: object) -> str:
    """Text that any terminal can print without acting on it; tabs and newlines stay."""
    return _UNSAFE.sub(_visible, str(text))


def shown_line(text: object, limit: int = 0) -> str:
    """The same on one line, cut with an ellipsis where it is longer than the limit."""
    line = " ".join(shown(text).split())
    return line if not limit or len(line) <= limit else line[: max(limit - 1, 0)] + "…"
