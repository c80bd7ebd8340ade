"""Sentences for pictures that came with none, and class names as people write them."""

import re

from studio.datasets.rsicd import CLASS_NAMES
from studio.errors import UsageError


def readable_class(label: str) -> str:
    """A class as words in a sentence: BareLand, bare_land and bareland all become bare land."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    words = " ".join(re.split(r"[\s_-]+", words)).strip().lower()
    return CLASS_NAMES.get(words.replace(" ", ""), words)


def check_template(template: str) -> None:
    """Raise where a caption template holds anything in braces but {class}.

    Raises:
        UsageError: it does.
    """
    for place in re.findall(r"\{[^{}]*\}?|\}", template.replace("{class}", "")):
        raise UsageError(
            f"The caption template holds {place}, which is not known.", "Write 'a satellite image of {class}'."
        )


def from_template(template: str, label: str) -> tuple[str, ...]:
    """The caption of a picture of a class; none where the template names a class that the picture does not have."""
    if not template or ("{class}" in template and not label):
        return ()
    return (template.replace("{class}", readable_class(label)),)
