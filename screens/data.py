"""Data: the data sets, what is in them, and each picture with its captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from screens import wording
from screens.filtering import chosen
from screens.frame import StudioScreen
from screens.watching import JobNews
from screens.widgets.browser import Browser
from screens.widgets.job_table import Column, JobTable
from screens.widgets.picture import Picture
from screens.widgets.picture_grid import Tile
from screens.widgets.words import Words
from studio.datasets.dataset import Dataset, finished_datasets
from studio.datasets.dataset import Picture as DataPicture
from studio.display import shown, shown_line
from studio.errors import StudioError

COLUMNS = (Column("data set"), Column("pictures", right=True), Column("", 2))


class PicturesRead(Message):
    """A thread has read a data set's captions."""

    def __init__(self, dataset: Dataset, pictures: list[DataPicture], fault: str = "") -> None:
        super().__init__()
        self.dataset, self.pictures, self.fault = dataset, pictures, fault


class DataScreen(StudioScreen):
    MODE = "data"
    CSS_PATH = "data.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i", "import_data", "Import", tooltip="Bring pictures into the workspace"),
        Binding("t", "train", "Train on this", tooltip="A new run on this data set"),
        Binding(
            "slash", "filter", "Filter", key_display="/", tooltip="Words of captions, label:NAME, split:NAME, !not"
        ),
        Binding("right_square_bracket", "other_set(1)", "Set", key_display="[ ]", tooltip="The next data set"),
        Binding("left_square_bracket", "other_set(-1)", "Set", show=False, tooltip="The data set before"),
        Binding("w", "export", "Write out", tooltip="Export this data set"),
        Binding("y", "copy_path", "Copy path", show=False, tooltip="Copy the picture's path"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._sets: dict[str, Dataset] = {}
        self._dataset: Dataset | None = None
        self._pictures: list[DataPicture] = []
        self._chosen: list[DataPicture] = []

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="body"):
            with Vertical(id="left"):
                with Vertical(id="sets", classes="frame"):
                    yield JobTable(COLUMNS, id="table")
                with VerticalScroll(id="classes", classes="frame"):
                    yield Words(id="counts")
            with Vertical(id="middle", classes="frame"):
                yield Input(placeholder="words, label:airport, split:valid, !not; esc clears", id="filter")
                yield Browser((15, 8), "No data yet. i imports pictures; D on Home makes a demo set.", id="browser")
            with Vertical(id="right", classes="frame"):
                yield Picture(id="large")
                with VerticalScroll(id="facts"):
                    yield Words(id="words")

    def on_mount(self) -> None:
        self.query_one("#sets").border_title = "Data sets"
        self.query_one("#classes").border_title = "Classes"
        self.query_one("#filter").display = False
        self.query_one("#facts").can_focus = False
        self.query_one("#classes").can_focus = False
        self.set_focus(self.query_one(Browser))

    # Showing

    def show_all(self) -> None:
        self._show_sets()

    def show_news(self, news: list[JobNews]) -> None:
        if any(one.job.section == "datasets" for one in news):
            self._show_sets()

    def _show_sets(self) -> None:
        try:
            self._sets = {dataset.name: dataset for dataset in finished_datasets(self.studio.workspace)}
        except StudioError as error:
            self.studio.tell_error(error)
            return
        rows: dict[str, tuple[str, ...]] = {
            name: (shown_line(name, 20), f"{sum(dataset.splits.values()):,}", "")
            for name, dataset in self._sets.items()
        }
        for job in self.studio.jobs("datasets"):
            if job.path.name not in self._sets:
                done, total = wording.progress(job.state)
                rows[job.path.name] = (shown_line(job.path.name, 20), f"{done:,}/{total:,}" if total else "-", "…")
        table = self.query_one(JobTable)
        table.show(rows)
        self.query_one("#sets").border_subtitle = wording.count(len(self._sets), "set")
        if self._dataset is None and self._sets:
            self._open(next(iter(self._sets.values())))
        self.refresh_bindings()

    def _open(self, dataset: Dataset) -> None:
        if self._dataset is None or dataset.name != self._dataset.name:
            self._dataset = dataset
            self.query_one(JobTable).go_to(dataset.name)
            self._read(dataset)

    @work(thread=True, exclusive=True, group="read")
    def _read(self, dataset: Dataset) -> None:
        try:
            self.post_message(PicturesRead(dataset, dataset.pictures()))
        except StudioError as error:
            self.post_message(PicturesRead(dataset, [], wording.error_text(error)))

    def on_pictures_read(self, message: PicturesRead) -> None:
        if self._dataset is not message.dataset:
            return
        if message.fault:
            self.studio.tell(message.fault, severity="error")
        self._pictures = message.pictures
        self._show_classes()
        self._show_pictures()

    def _show_classes(self) -> None:
        assert self._dataset is not None
        counts = Counter(picture.label for picture in self._pictures if picture.label)
        most = max(counts.values(), default=1)
        # The scroll bar comes when the list is long, and must not push the bars onto lines of their own.
        room = self.query_one("#classes").content_size.width - 2
        bar_width = 6 if room >= 29 else 0
        name_width = max(room - 8 - bar_width, 8)
        lines = [
            Content.assemble(
                f"{shown_line(name, name_width):<{name_width}} {number:>6,} ",
                (wording.block_bar(number / most, bar_width), "$primary"),
            )
            for name, number in sorted(counts.items())
        ]
        lines += [Content("")] if lines else []
        lines.append(Content.assemble(("Splits", "bold $primary")))
        for name, number in self._dataset.splits.items():
            lines.append(Content(f"{shown_line(name, name_width):<{name_width}} {number:>6,}"))
        self.query_one("#counts", Words).say(Content("\n").join(lines))
        self.query_one("#classes").border_subtitle = wording.count(len(counts), "class", "classes")

    def _show_pictures(self) -> None:
        self._chosen = chosen(
            self._pictures,
            self.query_one("#filter", Input).value,
            lambda one: f"{one.file_name} {one.label} {' '.join(one.captions)}",
            lambda one: {"label": one.label, "class": one.label, "split": one.split},
        )
        assert self._dataset is not None
        self.query_one(Browser).browse(
            [Tile(self._dataset.path(one), shown_line(Path(one.file_name).stem, 40)) for one in self._chosen]
        )
        self.query_one("#middle").border_title = Content(shown_line(self._dataset.name))

    @on(Browser.Moved)
    def _show_picture(self, message: Browser.Moved) -> None:
        self.query_one("#middle").border_subtitle = message.browser.range_in_view if self._chosen else ""
        if message.place >= len(self._chosen) or self._dataset is None:
            self.query_one("#large", Picture).show(None)
            self.query_one("#words", Words).say("")
            return
        picture = self._chosen[message.place]
        self.query_one("#right").border_title = Content(shown_line(Path(picture.file_name).name, 34))
        self.query_one("#large", Picture).show(self._dataset.path(picture))
        self.query_one("#words", Words).say(facts(picture))

    # Keys and messages

    @on(JobTable.RowHighlighted)
    def _open_highlighted(self, event: JobTable.RowHighlighted) -> None:
        dataset = self._sets.get(str(event.row_key.value))
        if dataset is not None and self.query_one(JobTable).has_focus:
            self._open(dataset)

    @on(JobTable.RowSelected)
    def _enter_set(self) -> None:
        self.set_focus(self.query_one(Browser))

    @on(Input.Changed, "#filter")
    def _filter(self) -> None:
        if self._dataset is not None:
            self._show_pictures()

    @on(Input.Submitted, "#filter")
    def _leave_filter(self) -> None:
        self.set_focus(self.query_one(Browser))

    @on(Browser.Opened)
    def _open_picture(self, message: Browser.Opened) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(message.browser.all, message.place))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("train", "export", "copy_path", "filter", "other_set"):
            return True if self._dataset is not None else None
        return True

    def action_filter(self) -> None:
        self.query_one("#filter").display = True
        self.set_focus(self.query_one("#filter"))

    def action_back(self) -> None:
        field = self.query_one("#filter", Input)
        field.value, field.display = "", False
        self.set_focus(self.query_one(Browser))

    def action_other_set(self, by: int) -> None:
        names = list(self._sets)
        if self._dataset is not None and names:
            place = (names.index(self._dataset.name) + by) % len(names) if self._dataset.name in names else 0
            self._open(self._sets[names[place]])

    def action_import_data(self) -> None:
        from screens.import_form import ask_for_import

        ask_for_import(self.studio)

    def action_train(self) -> None:
        from screens.new_run import ask_for_run

        if self._dataset is not None:
            ask_for_run(self.studio, self._dataset.name)

    def action_export(self) -> None:
        from screens.export_form import ask_for_export

        if self._dataset is not None:
            ask_for_export(self.studio, self._dataset.name, "parquet")

    def action_copy_path(self) -> None:
        path = self.query_one("#large", Picture).path
        if path is not None:
            self.app.copy_to_clipboard(str(path))
            self.studio.tell(f"Copied {path}")


def facts(picture: DataPicture) -> Content:
    """Captions, then what else is known of a picture."""
    lines = [Content.assemble(("Captions" if len(picture.captions) > 1 else "Caption", "bold $primary"))]
    lines += [Content(f"  {shown(caption)}") for caption in picture.captions] or [Content("  none")]
    lines.append(Content(""))
    known = {
        "class": picture.label,
        "split": picture.split,
        "size": f"{picture.width_px} × {picture.height_px}",
        "source": picture.source,
        **{key: value for key, value in picture.extra.items() if isinstance(value, str | int | float)},
    }
    for key, value in known.items():
        if value not in ("", None):
            lines.append(Content.assemble((f"{shown_line(key, 10):<11}", "$foreground 65%"), shown_line(value, 120)))
    return Content("\n").join(lines)
