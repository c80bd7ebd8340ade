"""Gallery: every generated tile with its whole recipe; mark, compare, rate, collect and write out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from screens import wording
from screens.batch_facts import words_of
from screens.filtering import chosen
from screens.frame import StudioScreen
from screens.recipe_words import recipe_lines
from screens.watching import JobNews
from screens.widgets.browser import Browser
from screens.widgets.picture import Picture
from screens.widgets.picture_grid import Tile
from screens.widgets.words import Words
from studio.catalog import Catalog
from studio.catalog import Tile as CatalogTile
from studio.display import shown_line
from studio.errors import StudioError
from studio.images import read_recipe

# Seconds between two looks at the catalog while tiles come in.
LOOK_SECONDS = 1.0


class TilesRead(Message):
    """A thread has asked the catalog."""

    def __init__(self, tiles: list[CatalogTile], words: dict[str, dict[int, str]], fault: str = "") -> None:
        super().__init__()
        self.tiles, self.words, self.fault = tiles, words, fault


class GalleryScreen(StudioScreen):
    MODE = "gallery"
    CSS_PATH = "gallery.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "recipe", "Recipe", tooltip="To the tile's recipe, to read all of it, and back"),
        Binding("space", "mark", "Mark", tooltip="Mark this tile for comparing, collecting or writing out"),
        Binding("c", "compare", "Compare", tooltip="The marked tiles side by side"),
        Binding("f", "favourite", "Favourite", tooltip="Make it a favourite, or not any more"),
        Binding("R", "rate", "Rate", tooltip="One to five; then a digit"),
        Binding("r", "reuse", "Reuse prompt", tooltip="To the prompt screen with this tile's recipe"),
        Binding("a", "collect", "Collect", tooltip="Put the marked tiles into a collection"),
        Binding("v", "batch", "View batch", tooltip="A grid's sheet; what became of a plan, and what was refused"),
        Binding("w", "export", "Write out", tooltip="Export this tile's batch"),
        Binding("y", "copy_path", "Copy path", show=False, tooltip="Copy the tile's path"),
        Binding(
            "slash", "filter", "Filter", key_display="/", tooltip="Words, batch:NAME, class:NAME, is:favourite, !not"
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._tiles: list[CatalogTile] = []
        self._words: dict[str, dict[int, str]] = {}
        self._chosen: list[CatalogTile] = []
        self._marked: list[str] = []
        self._is_outdated = True

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="body"):
            with Vertical(id="tiles", classes="frame"):
                yield Input(placeholder="words, batch:NAME, class:river, is:favourite, !not; esc clears", id="filter")
                yield Browser((18, 9), "No tiles yet. 4 makes some from a prompt.", id="browser")
            with Vertical(id="right", classes="frame"):
                yield Picture(id="large")
                with VerticalScroll(id="facts"):
                    yield Words(id="recipe")

    def on_mount(self) -> None:
        self.query_one("#tiles").border_title = "Gallery"
        self.query_one("#filter").display = False
        self.set_focus(self.query_one(Browser))
        self.set_interval(LOOK_SECONDS, self._look_again)

    # Showing

    def show_all(self) -> None:
        self._is_outdated = True
        self._look_again()

    def show_news(self, news: list[JobNews]) -> None:
        if any(one.job.section == "batches" for one in news):
            self._is_outdated = True

    def _look_again(self) -> None:
        if self._is_outdated and self.is_current:
            self._is_outdated = False
            self._read()

    @work(thread=True, exclusive=True, group="read")
    def _read(self) -> None:
        try:
            tiles = Catalog(self.studio.workspace).tiles()
        except StudioError as error:
            self.post_message(TilesRead([], {}, error.message))
            return
        batches = self.studio.workspace.batches
        self.post_message(TilesRead(tiles, {name: words_of(batches / name) for name in {one.batch for one in tiles}}))

    def on_tiles_read(self, message: TilesRead) -> None:
        if message.fault:
            self.studio.tell(message.fault, severity="error")
        began = {job.path.name: job.state.started_at for job in self.studio.jobs("batches")}
        self._words = message.words
        self._tiles = sorted(message.tiles, key=lambda tile: (-began.get(tile.batch, 0.0), tile.batch, tile.number))
        self._show_tiles(keep_place=True)

    def _show_tiles(self, keep_place: bool = False) -> None:
        self._chosen = chosen(
            self._tiles,
            self.query_one("#filter", Input).value,
            lambda tile: f"{tile.prompt} {tile.label} {tile.batch}",
            lambda tile: {
                "batch": tile.batch,
                "class": tile.label,
                "seed": str(tile.seed),
                "is": "favourite" if tile.favourite else "",
                "rating": str(tile.rating),
            },
        )
        self._draw(keep_place)

    def _draw(self, keep_place: bool = True) -> None:
        root, marked = self.studio.workspace.root, set(self._marked)
        self.query_one(Browser).browse(
            [Tile(root / tile.path, self._caption(tile), tile.path in marked) for tile in self._chosen], keep_place
        )
        self.refresh_bindings()

    def _caption(self, tile: CatalogTile) -> str:
        return caption(tile, self._words.get(tile.batch, {}).get(tile.number, ""))

    @property
    def tile(self) -> CatalogTile | None:
        place = self.query_one(Browser).cursor
        return self._chosen[place] if place < len(self._chosen) else None

    @on(Browser.Moved)
    def _show_tile(self, message: Browser.Moved) -> None:
        marked = f" · {len(self._marked)} marked" if self._marked else ""
        self.query_one("#tiles").border_subtitle = message.browser.range_in_view + marked if self._chosen else ""
        tile = self.tile
        path = self.studio.workspace.root / tile.path if tile else None
        self.query_one("#large", Picture).show(path)
        self.query_one("#right").border_title = Content(self._caption(tile) if tile else "")
        self.query_one("#recipe", Words).say(recipe_lines(tile, path) if tile and path else Content(""))

    # Keys and messages

    @on(Input.Changed, "#filter")
    def _filter(self) -> None:
        self._show_tiles()

    @on(Input.Submitted, "#filter")
    def _leave_filter(self) -> None:
        self.set_focus(self.query_one(Browser))

    @on(Browser.Opened)
    def _open_picture(self, message: Browser.Opened) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(message.browser.all, message.place))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("recipe", "mark", "favourite", "rate", "reuse", "collect", "batch", "export", "copy_path"):
            return True if self._chosen else None
        if action == "compare":
            return True if len(self._marked) > 1 else None
        return True

    def action_filter(self) -> None:
        self.query_one("#filter").display = True
        self.set_focus(self.query_one("#filter"))

    def action_back(self) -> None:
        field = self.query_one("#filter", Input)
        field.value, field.display = "", False
        self.set_focus(self.query_one(Browser))

    def action_recipe(self) -> None:
        browser = self.query_one(Browser)
        self.set_focus(self.query_one("#facts") if browser.has_focus else browser)

    def action_mark(self) -> None:
        if tile := self.tile:
            if tile.path in self._marked:
                self._marked.remove(tile.path)
            else:
                self._marked.append(tile.path)
            self._draw()
            self.query_one(Browser).action_move(1)

    def action_compare(self) -> None:
        from screens.picture import CompareScreen

        known = {tile.path: tile for tile in self._tiles}
        root = self.studio.workspace.root
        tiles = [Tile(root / path, self._caption(known[path])) for path in self._marked[:9] if path in known]
        self.app.push_screen(CompareScreen(tiles))

    def action_favourite(self) -> None:
        if tile := self.tile:
            Catalog(self.studio.workspace).set_favourite(tile.path, not tile.favourite)
            self.show_all()

    def action_rate(self) -> None:
        from screens.rate import RateScreen

        if tile := self.tile:

            def rated(rating: int | None) -> None:
                if rating is not None:
                    Catalog(self.studio.workspace).rate(tile.path, rating)
                    self.show_all()

            self.app.push_screen(RateScreen(self._caption(tile)), rated)

    def action_reuse(self) -> None:
        if tile := self.tile:
            try:
                recipe = read_recipe(self.studio.workspace.root / tile.path)
            except StudioError as error:
                self.studio.tell_error(error)
                return
            if sha256 := str(recipe.get("init_sha256") or ""):
                inputs = self.studio.workspace.batches / tile.batch / "inputs"
                recipe["init"] = next((str(path) for path in inputs.glob("*.png") if path.stem == sha256), "")
            self.studio.recipe_to_reuse = recipe
            self.app.switch_mode("prompt")

    def action_collect(self) -> None:
        from screens.collect import ask_for_collection

        paths = self._marked or ([self.tile.path] if self.tile else [])
        ask_for_collection(self.studio, [self.studio.workspace.root / path for path in paths])

    def action_batch(self) -> None:
        from screens.batch import BatchScreen

        job = next((job for job in self.studio.jobs("batches") if self.tile and job.path.name == self.tile.batch), None)
        if job is not None:
            self.app.push_screen(BatchScreen(job))

    def action_export(self) -> None:
        from screens.export_form import ask_for_export

        if tile := self.tile:
            ask_for_export(self.studio, tile.batch)

    def action_copy_path(self) -> None:
        if tile := self.tile:
            path = str((self.studio.workspace.root / tile.path).absolute())
            self.app.copy_to_clipboard(path)
            self.studio.tell(f"Copied {path}")


def caption(tile: CatalogTile, words: str = "") -> str:
    """The few words under a tile: what tells it from the others of its batch, else what it shows."""
    signs = ("★" if tile.favourite else "") + (f" {tile.rating}/5" if tile.rating else "")
    said = f"{tile.number + 1} {signs}".strip()
    return shown_line(f"{said} {words or tile.label or wording.subject(tile.prompt)}", 60)
