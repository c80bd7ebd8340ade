"""Prompts put together from a curated vocabulary, in which things that do not go together never meet."""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tomli

from studio.errors import unknown
from studio.prompts.choices import expand

FILE = Path(__file__).with_name("grammar.toml")
# How often a part that a prompt may do without is there.
_SHARES = {"detail": 0.6, "region": 0.3, "season": 0.3, "light": 0.25, "resolution": 0.2}
_NOUNS = ("area", "lot")  # that RSICD's names may end with: parking lot, industrial area


@dataclass(frozen=True)
class Phrase:
    """Some words, and the tags that say what they go with."""

    text: str
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SceneClass:
    """One class of pictures; `words` are those that make a prompt one of it."""

    label: str
    words: tuple[str, ...]
    scenes: tuple[Phrase, ...]
    details: tuple[Phrase, ...]


@dataclass(frozen=True)
class Grammar:
    """All there is to choose from, and the pairs of tags that may not meet."""

    classes: dict[str, SceneClass]
    aliases: dict[str, str]
    slots: dict[str, tuple[Phrase, ...]]
    bans: frozenset[frozenset[str]]

    def find(self, label: str) -> SceneClass | None:
        """The class of a label, however it is written: Bare Land, bare-land, BareLand."""
        wanted = key_of(label)
        name = self.aliases.get(wanted)
        return next((one for one in self.classes.values() if name == one.label or key_of(one.label) == wanted), None)

    def banned(self, tags: Iterable[str], more: Iterable[str]) -> bool:
        """Whether any of some tags may not meet any of others."""
        others = tuple(more)
        return any(frozenset((one, other)) in self.bans for one in tags for other in others)


@dataclass(frozen=True)
class Composed:
    """A prompt with the phrases that it was put together from."""

    text: str
    label: str
    phrases: tuple[Phrase, ...]


@cache
def load_grammar() -> Grammar:
    """The vocabulary that comes with the studio, read once."""
    data = tomli.loads(FILE.read_text("utf-8"))
    implied = data["implied"]
    classes = {
        label: SceneClass(
            label, tuple(one["words"]), _phrases(one["scenes"], implied), _phrases(one["details"], implied)
        )
        for label, one in data["classes"].items()
    }
    slots = {name: _phrases(data[f"{name}s"], implied) for name in ("view", "region", "season", "light", "resolution")}
    return Grammar(classes, data["aliases"], slots, frozenset(frozenset(pair) for pair in data["bans"]))


def compose(label: str, rng: random.Random) -> Composed:
    """One prompt of a class.

    Raises:
        UsageError: the vocabulary has no such class.
    """
    grammar = load_grammar()
    scene_class = grammar.find(label)
    if scene_class is None:
        raise unknown("class", label, grammar.classes)
    scene = rng.choice(scene_class.scenes)
    parts = {"scene": scene}
    tags = set(scene.tags)
    order = ["view", *rng.sample(list(_SHARES), len(_SHARES))]  # so that none always has the first choice
    for slot in order:
        if rng.random() >= _SHARES.get(slot, 1.0):
            continue
        options = scene_class.details if slot == "detail" else grammar.slots[slot]
        fitting = [phrase for phrase in options if not grammar.banned(tags, phrase.tags)]
        if fitting:
            parts[slot] = rng.choice(fitting)
            tags |= parts[slot].tags
    return Composed(_sentence(parts), scene_class.label, tuple(parts.values()))


def compose_plainly(label: str, rng: random.Random) -> Composed:
    """A prompt of a class that the vocabulary does not know: its name with a view, and perhaps light."""
    slots = load_grammar().slots
    parts = {"view": rng.choice(slots["view"]), "scene": Phrase(readable(label))}
    if rng.random() < 0.5:
        parts["light"] = rng.choice(slots["light"])
    return Composed(_sentence(parts), label, tuple(parts.values()))


def classes_of(text: str) -> list[str]:
    """The classes that some words speak of, best first; none where they speak of no class."""
    words = set(words_of(text))
    scores = {
        label: len(words & (set(one.words) | set(words_of(readable(label)))))
        for label, one in load_grammar().classes.items()
    }
    return sorted((label for label, score in scores.items() if score), key=lambda label: -scores[label])


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def readable(label: str) -> str:
    """A label as words: bare land for bare-land and BareLand."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    return re.sub(r"[\W_]+", " ", spaced).strip().lower()


def key_of(label: str) -> str:
    """What is the same in all ways to write a label."""
    key = re.sub(r"[^a-z0-9]", "", label.lower())
    return next((key.removesuffix(noun) for noun in _NOUNS if key.endswith(noun) and key != noun), key)


def _sentence(parts: dict[str, Phrase]) -> str:
    text = f"{parts['view'].text} {parts['scene'].text}"
    for slot, joint in (("detail", " "), ("region", " "), ("season", " "), ("light", ", "), ("resolution", ", ")):
        if slot in parts:
            text += joint + parts[slot].text
    return re.sub(r"\ba (?=[aeio])(?!one\b)", "an ", text)


def _phrases(lines: Sequence[str], implied: Mapping[str, str]) -> tuple[Phrase, ...]:
    """Phrases from lines like `a {red|grey} roof #built #small`, each choice written out."""
    phrases = []
    for line in lines:
        text, *tags = re.split(r"\s+#", line)
        for one in expand(text):
            phrases.append(Phrase(one, frozenset(tags) | {implied[word] for word in words_of(one) if word in implied}))
    return tuple(phrases)
