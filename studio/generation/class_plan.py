"""Class plans: how many tiles of each class, from which prompts, what is refused, and when to stop trying; no torch."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from studio import config
from studio.errors import UsageError, unknown
from studio.generation.plans import PlannedTile
from studio.prompts.choices import expand
from studio.workspace import TEMPLATE, Workspace, slug

CLASS_PLAN = "class-plan.toml"
_SEED_BITS = 48  # short enough to be read in a table; two of a million tiles share one with odds of one in 560


class Filters(config.Model):
    """What is refused; a refused tile is put aside with the reason, and another is tried."""

    artefacts: bool = True
    """Refuse flat, clipped and noisy tiles."""
    borders: bool = True
    """Refuse tiles with a frame, or with a strip of one colour along a side."""
    near_duplicates: float = Field(0.998, ge=0, le=1)
    """Refuse a tile this much like a kept one in any of eight orientations (cosine of features); 0 refuses none.

    Of 1,027 real pictures of RSICD one at most is so like another by the shipped network.
    """
    margin: float | None = Field(None, ge=-1, lt=1)
    """Refuse a tile unless the network's probability of its class exceeds that of any other by this; empty never."""
    network: str = "scenes"
    """Feature network of the two above: scenes, starter-encoder, or inception:FILE.safetensors."""


class ClassPlan(config.Model):
    """One class of a plan."""

    label: str = Field(min_length=1)
    """What the tiles of the class are filed under; folders are named after it."""
    name: str = ""
    """How the class is called where people read; empty takes the label."""
    count: int = Field(ge=1, le=1_000_000)
    """Tiles wanted."""
    prompts: tuple[str, ...] = Field(min_length=1)
    """Prompts, taken in turn."""
    negative: str | None = None
    """What to steer away from; empty takes the plan's."""
    accept: tuple[str, ...] = ()
    """Classes of the filters' network that count as this one; empty takes the one of the same name."""

    @property
    def title(self) -> str:
        return self.name or self.label


class Plan(config.Model):
    """A count for each class, with its prompts."""

    description: str = ""
    """What the plan is for."""
    known_problems: str = ""
    """What a user should know before starting."""
    before: str = ""
    """Put before every prompt."""
    after: str = ""
    """Put behind every prompt."""
    negative: str = ""
    """What to steer away from."""
    attempts: float = Field(3.0, ge=1, le=100)
    """Budget: tiles tried at most for each tile wanted."""
    filters: Filters = Filters()
    """What is refused."""
    classes: tuple[ClassPlan, ...] = Field((), max_length=1000)
    """The classes."""

    @model_validator(mode="after")
    def _classes_are_apart(self) -> "Plan":
        same = [label for label, count in Counter(slug(one.label) for one in self.classes).items() if count > 1]
        if same:
            raise ValueError(f"two classes are filed under {same[0]}")
        return self

    @property
    def wanted(self) -> int:
        return sum(one.count for one in self.classes)


def plans(workspace: Workspace) -> dict[str, Path]:
    """The class plans of a workspace by name; those of the template where it has none yet."""
    folder = workspace.plans if workspace.plans.is_dir() else TEMPLATE / "plans"
    return {path.stem: path for path in sorted(folder.glob("[!.]*.toml"))}


def find_plan(workspace: Workspace, name: str) -> Plan:
    """A class plan by its name or file.

    Raises:
        UsageError: there is none of that name.
        SettingsError: every fault of the file at once.
    """
    path = Path(name) if name.endswith(".toml") or "/" in name else plans(workspace).get(name)
    if path is None:
        raise unknown("class plan", name, plans(workspace))
    return read_plan(path)


def read_plan(path: Path) -> Plan:
    """A class plan from a TOML file.

    Raises:
        UsageError: the file is missing or has faults, all named.
    """
    plan = config.load(path, Plan)
    if not plan.classes:
        raise UsageError(f"{path} plans no classes.", "Write [[classes]] with label, count and prompts.")
    return plan


def plan_classes(plan: Plan, seed: int) -> list[PlannedTile]:
    """Every tile that may be tried, class after class; what is tried of them is for `rounds` to say.

    Prompt and seed of a tile follow from the seed, its class and its attempt alone, so that another count, another
    order of classes, or a kill changes no tile.
    """
    tiles: list[PlannedTile] = []
    for one in plan.classes:
        prompts = [f"{plan.before}{text}{plan.after}" for prompt in one.prompts for text in expand(prompt)]
        negative = plan.negative if one.negative is None else one.negative
        for attempt in range(_budget(plan, one)):
            prompt = prompts[attempt % len(prompts)]
            tiles.append(PlannedTile(len(tiles), prompt, negative, tile_seed(seed, one.label, attempt), one.label))
    return tiles


def tile_seed(seed: int, label: str, attempt: int) -> int:
    """The seed of one attempt at a class."""
    digest = hashlib.sha256(f"{seed}\n{attempt}\n{label}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


def rounds(plan: Plan, tiles: Sequence[PlannedTile], verdicts: Mapping[int, str]) -> Iterator[list[PlannedTile]]:
    """Round after round the tiles to try: first as many as are wanted, then for each class as many as were refused.

    Args:
        tiles: those of `plan_classes`.
        verdicts: why the tile of an index was refused, or nothing; read again whenever a round is over.
    """
    attempts = _attempts(plan, tiles)
    tried = dict.fromkeys(attempts, 0)
    while True:
        wave: list[PlannedTile] = []
        for one in plan.classes:
            own, done = attempts[one.label], tried[one.label]
            kept = sum(not verdicts[tile.index] for tile in own[:done])
            new = own[done : done + one.count - kept]
            tried[one.label] += len(new)
            wave += new
        if not wave:
            return
        yield wave


def tally(plan: Plan, tiles: Sequence[PlannedTile], verdicts: Mapping[int, str]) -> list[dict[str, Any]]:
    """What became of each class: tiles wanted, kept and missing, attempts made, and how many each filter refused."""
    found = []
    attempts = _attempts(plan, tiles)
    for one in plan.classes:
        reasons = [verdicts[tile.index] for tile in attempts[one.label] if tile.index in verdicts]
        kept = sum(not reason for reason in reasons)
        refused = Counter(reason.partition(":")[0] for reason in reasons if reason)
        found.append(
            {"label": one.label, "name": one.title, "wanted": one.count, "kept": kept, "missing": one.count - kept}
            | {"attempts": len(reasons), "refused": dict(sorted(refused.items()))}
        )
    return found


def _attempts(plan: Plan, tiles: Sequence[PlannedTile]) -> dict[str, list[PlannedTile]]:
    attempts: dict[str, list[PlannedTile]] = {one.label: [] for one in plan.classes}
    for tile in tiles:
        attempts[tile.label].append(tile)
    return attempts


def _budget(plan: Plan, one: ClassPlan) -> int:
    return ceil(plan.attempts * one.count)
