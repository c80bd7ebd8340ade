"""Which class a generated tile is of: its plan's label, or the class that its prompt names."""

import re
from collections.abc import Iterable, Mapping
from typing import Any


def class_of(recipe: Mapping[str, Any], classes: Iterable[str]) -> str | None:
    """The class, spelt as in `classes`, of the tile with this recipe; None where it has none of them.

    "Bare Land", "BareLand" and "bare-land" are one class. Of several classes in a prompt the longest name counts, as
    "dense residential" is within "medium dense residential"; two equally long ones decide nothing.
    """
    by_key = {_key(name): name for name in classes}
    label = str(recipe.get("label") or "")
    if label:
        return by_key.get(_key(label))
    prompt = f" {_words(str(recipe.get('prompt') or ''))} "
    named = [name for name in by_key.values() if _words(name) and f" {_words(name)} " in prompt]
    longest = max((len(_words(name)) for name in named), default=0)
    best = [name for name in named if len(_words(name)) == longest]
    return best[0] if len(best) == 1 else None


def _key(name: str) -> str:
    return _words(name).replace(" ", "")


def _words(text: str) -> str:
    """Lower-case words with single spaces; BareLand becomes bare land."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " ".join(re.findall(r"[^\W_]+", apart.lower()))
