"""Where the tiles of a batch go: kept, or put aside with the reason, until there are as many as were planned."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from studio import config, files
from studio.context import Context
from studio.errors import StudioError, UsageError
from studio.events import ImageSaved, Refused, Warned
from studio.generation.class_plan import CLASS_PLAN, Plan, rounds, tally
from studio.generation.filters import Judge
from studio.generation.plans import PLAN_FILE, PlannedTile, planned, tile_name
from studio.images import open_picture, read_recipe, save_tile
from studio.journal import JournalReader

TILES = "tiles"
REFUSED = "refused"
REPORT = "class-plan.json"


class Keeper:
    """Takes the tiles of a batch as they are made; what is on disk already was taken before, whoever made it.

    A tile's file is the record of what became of it, so a killed batch goes on from the files alone.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folder = context.folder.path
        self.tiles = planned(self._folder / PLAN_FILE)
        path = self._folder / CLASS_PLAN
        self._plan = config.load(path, Plan) if path.is_file() else None
        self._judge = Judge(self._plan, context.device) if self._plan else None
        self._verdicts: dict[int, str] = {}
        self._remove_torn()
        self._recall()
        if self._judge and self._judge.unjudged:
            names = ", ".join(self._judge.unjudged)
            self._context.emit(
                Warned(f"The feature network knows no class like {names}.", "Their tiles are kept whatever they show.")
            )

    @property
    def wanted(self) -> int:
        """Tiles to have in the end."""
        return self._plan.wanted if self._plan else len(self.tiles)

    @property
    def kept(self) -> int:
        return sum(not reason for reason in self._verdicts.values())

    def rounds(self) -> Iterator[list[PlannedTile]]:
        """Tiles to make, those on disk among them; each round tops up what the one before left missing.

        A round depends on the rounds before it alone, so that its tiles are made together again after a kill.
        """
        return rounds(self._plan, self.tiles, self._verdicts) if self._plan else iter([self.tiles])

    def has(self, tile: PlannedTile) -> bool:
        """Whether this tile was made."""
        return tile.index in self._verdicts

    def take(self, tile: PlannedTile, array: np.ndarray, recipe: Mapping[str, Any]) -> None:
        """Save a tile (height, width, 3) uint8 with its recipe, among the tiles or among the refused, and tell."""
        reason = self._judge.reason(tile, array) if self._judge else ""
        if reason:
            path = self._folder / REFUSED / tile_name(tile)
            save_tile(path, array, {**recipe, "refused": reason})
            self._verdicts[tile.index] = reason
            self._context.emit(Refused(path.relative_to(self._folder).as_posix(), reason))
            return
        path = self._folder / TILES / tile_name(tile)
        sha = save_tile(path, array, recipe)
        self._verdicts[tile.index] = ""
        if self._judge:
            self._judge.remember(tile, array)
        self._tell_saved(tile, sha)

    def finish(self) -> None:
        """Say what is missing, and write what became of each class beside the tiles; the manifest comes after."""
        if not self._plan or not self._judge:
            return
        found = tally(self._plan, self.tiles, self._verdicts)
        report = {"classes": found, "alike": self._judge.confusable(), "network": self._judge.network_note}
        files.write_json(self._folder / REPORT, report)
        short = [f"{one['missing']} of {one['wanted']} of {one['name']}" for one in found if one["missing"]]
        if short:
            message = f"The attempts ended before the plan was full: {', '.join(short)} are missing."
            self._context.emit(Warned(message, f"Look at {REFUSED}/ for what was refused and why."))

    def check_for_tiles(self) -> None:
        """Raise where every tile that was tried is refused.

        Raises:
            StudioError: there are none.
        """
        if self._plan and not self.kept:
            refused = ", ".join(f"{count} {kind}" for kind, count in self._refused().items())
            raise StudioError(
                f"Every attempt of the class plan was refused: {refused}.",
                f"Look at {REFUSED}/ for what was refused and why, and ask for less in the plan's filters.",
            )

    def result(self) -> dict[str, Any]:
        """The fields of the job's result line."""
        result: dict[str, Any] = {"batch": self._folder.name, "requested": self.wanted, "saved": self.kept}
        if self._plan:
            missing = {one["label"]: one["missing"] for one in tally(self._plan, self.tiles, self._verdicts)}
            result["refused"] = self._refused()
            result["missing"] = {label: count for label, count in missing.items() if count}
        return result

    def _refused(self) -> dict[str, int]:
        """How many tiles each filter refused."""
        return dict(sorted(Counter(reason.partition(":")[0] for reason in self._verdicts.values() if reason).items()))

    def _remove_torn(self) -> None:
        for name in (TILES, REFUSED) if self._plan else (TILES,):
            folder = self._folder / name
            folder.mkdir(exist_ok=True)
            for torn in folder.glob(f"{files.TEMPORARY}*"):
                torn.unlink()

    def _recall(self) -> None:
        """Take note of every tile on disk, and tell of those that a killed process saved and had no time to tell of."""
        news = JournalReader(self._context.folder.journal_path).read()
        told = {event.index for _, event in news if isinstance(event, ImageSaved)}
        for tile in self.tiles:
            kept, refused = (self._folder / name / tile_name(tile) for name in (TILES, REFUSED))
            if kept.is_file():
                self._verdicts[tile.index] = ""
                if self._judge:
                    self._judge.remember(tile, np.asarray(open_picture(kept)))
                if tile.index not in told:
                    self._tell_saved(tile, files.sha256_of(kept))
            elif self._plan and refused.is_file():
                self._verdicts[tile.index] = _reason(refused)
                # All of them again: whoever adds up the journal forgets what was refused before a restart.
                self._context.emit(Refused(refused.relative_to(self._folder).as_posix(), self._verdicts[tile.index]))

    def _tell_saved(self, tile: PlannedTile, sha256: str) -> None:
        name = f"{TILES}/{tile_name(tile)}"
        self._context.emit(ImageSaved(tile.index, name, tile.seed, sha256, tile.prompt))


def _reason(path: Path) -> str:
    try:
        return str(read_recipe(path).get("refused") or "refused")
    except UsageError:  # a person may have put another file in its place
        return "refused"
