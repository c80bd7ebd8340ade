"""Suggestions for prompts, each with where it comes from: captions of the workspace's data sets, and the grammar."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from studio.catalog import Catalog
from studio.datasets.dataset import finished_datasets
from studio.display import shown
from studio.errors import UsageError, unknown
from studio.prompts import grammar, tokens
from studio.workspace import STARTER, Workspace

BACKENDS = ("grammar",)
# Links, markup, and the signs that other tools take for weights and adapters: (word:1.3), <lora:x>, {a|b}.
_NOT_PLAIN = re.compile(r"https?:|www\.|[<>{}|\\`]|\[[^\]]*\]|\(\s*[^()]*:\s*[\d.]+\s*\)|&#?\w+;")
_TRIES = 60


@dataclass(frozen=True)
class Suggestion:
    """A prompt to take or leave; `source` is grammar or DATASET:FILE, `detail` says more for people."""

    text: str
    tokens: int
    source: str
    detail: str


def suggest(
    workspace: Workspace,
    label: str = "",
    like: str = "",
    n: int = 8,
    backend: str = "grammar",
    seed: int = 0,
    tokenizer_folder: Path = STARTER,
) -> list[Suggestion]:
    """Up to n prompts of a class, like some words, or of anything; captions and grammar in turn.

    Args:
        tokenizer_folder: the model, or tokenizer, that the prompts should fit.

    Raises:
        UsageError: the class or backend is unknown, or n is not positive.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if n < 1:
        raise UsageError(f"{n} suggestions cannot be made.", "Ask for one or more.")
    labels = _labels_of(workspace, label)
    rng = random.Random(f"{seed}/{label}/{like}".encode("utf-8", "surrogatepass"))
    sources = [_captions(workspace, label, labels, like, rng), _composed(label, like, rng)]
    return _in_turn(sources, n, tokenizer_folder)


def fault(text: str, used_tokens: int, limit: int = tokens.LIMIT) -> str:
    """Why a text is not offered as a prompt; empty where it is."""
    if not text.strip():
        return "is empty"
    if shown(text) != text or "\n" in text:
        return "holds signs that cannot be printed"
    if _NOT_PLAIN.search(text):
        return "holds links, markup or prompt syntax"
    return f"takes {used_tokens} of {limit} tokens" if used_tokens > limit else ""


def _in_turn(sources: list[Iterator[tuple[str, str, str]]], n: int, tokenizer_folder: Path) -> list[Suggestion]:
    """One suggestion of each source after the other, those that repeat or do not hold to the rules left out."""
    found: list[Suggestion] = []
    seen: set[tuple[str, ...]] = set()
    while sources and len(found) < n:
        for source in list(sources):
            one = next((one for one in map(partial(_checked, tokenizer_folder, seen), source) if one), None)
            if one is None:
                sources.remove(source)
            elif len(found) < n:
                found.append(one)
    return found


def _checked(folder: Path, seen: set[tuple[str, ...]], given: tuple[str, str, str]) -> Suggestion | None:
    text, source, detail = given
    key = tuple(grammar.words_of(text))
    counted = tokens.count(text, folder)
    if key in seen or fault(text, counted.used, counted.limit):
        return None
    seen.add(key)
    return Suggestion(text, counted.used, source, detail)


def _labels_of(workspace: Workspace, label: str) -> list[str]:
    """How the data sets of the workspace write a class; empty for no class.

    Raises:
        UsageError: neither they nor the grammar know it.
    """
    if not label:
        return []
    known = sorted({name for dataset in finished_datasets(workspace) for name in dataset.classes})
    same = [name for name in known if grammar.key_of(name) == grammar.key_of(label)]
    if not same and grammar.load_grammar().find(label) is None:
        raise unknown("class", label, {*known, *grammar.load_grammar().classes})
    return same


def _captions(
    workspace: Workspace, label: str, labels: list[str], like: str, rng: random.Random
) -> Iterator[tuple[str, str, str]]:
    """Captions of the data sets: those that fit the words best first; without words, any of the class by chance."""
    datasets = finished_datasets(workspace)
    text = like
    if label and not labels:  # no data set has the class, so its words have to find what is near
        scene_class = grammar.load_grammar().find(label)
        text = " ".join([like, *(scene_class.words if scene_class else ())])
    if datasets and text.strip():
        wanted = labels or [""]
        hits = [hit for one in wanted for hit in Catalog(workspace).search_captions(text, limit=_TRIES, label=one)]
        for hit in sorted(hits, key=lambda hit: -hit.score):
            yield _told(hit.caption, hit.dataset, hit.file_name, hit.label, hit.split)
        return
    pictures = [
        (dataset.name, picture)
        for dataset in datasets
        for picture in dataset.pictures()
        if picture.captions and (not labels or picture.label in labels)
    ]
    for name, picture in rng.sample(pictures, min(_TRIES, len(pictures))):
        yield _told(rng.choice(picture.captions), name, picture.file_name, picture.label, picture.split)


def _told(caption: str, dataset: str, file_name: str, label: str, split: str) -> tuple[str, str, str]:
    """A caption as a prompt, where it comes from, and what else is known of it."""
    # RSICD's sentences end with a space and a full stop.
    prompt = re.sub(r"\s*\.\s*$", "", caption).strip()
    words = [f"caption of {file_name}", f"class {label}" if label else "", split]
    return prompt, f"{dataset}:{file_name}", ", ".join(word for word in words if word)


def _composed(label: str, like: str, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Prompts of the grammar; of many, those that share most words with what was asked for."""
    known = list(grammar.load_grammar().classes)
    labels = [label] if label else grammar.classes_of(like)[:3] or known
    liked = set(grammar.words_of(like))
    for _ in range(_TRIES):
        tried = [_compose(rng.choice(labels), rng) for _ in range(8 if liked else 1)]
        best = max(tried, key=lambda one: len(liked & set(grammar.words_of(one.text))))
        yield best.text, "grammar", f"class {best.label}: " + " · ".join(phrase.text for phrase in best.phrases)


def _compose(label: str, rng: random.Random) -> grammar.Composed:
    if grammar.load_grammar().find(label) is None:
        return grammar.compose_plainly(label, rng)
    return grammar.compose(label, rng)
