"""A form made from settings: one line a field, and every wrong field marked at once."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from textual import events, on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from screens.widgets.words import Words
from studio.config import faults_of, merged
from studio.display import shown, shown_line

SEPARATOR = "; "


@dataclass(frozen=True)
class Entry:
    """One field of a form: where its value belongs, and what a person should know."""

    path: tuple[str, ...]
    annotation: Any
    default: Any
    help: str

    @property
    def label(self) -> str:
        return self.path[-1].replace("_px", "").replace("_", " ")

    @property
    def choices(self) -> list[str]:
        """The words that are allowed, where only some are."""
        return choices_of(self.annotation)

    @property
    def is_list(self) -> bool:
        return get_origin(self.annotation) is tuple

    def text(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, list | tuple):
            return SEPARATOR.join(map(str, value))
        if isinstance(value, bool):
            return "true" if value else "false"
        return f"{value:g}" if isinstance(value, float) else str(value)

    def value(self, text: str) -> Any:
        """What the text stands for, left to the settings to check; None where the field takes its default."""
        text = text.strip()
        if self.is_list:
            return [part.strip() for part in text.split(SEPARATOR.strip()) if part.strip()]
        if not text and self.default is None:
            return None
        # Words are read as numbers where numbers are wanted, but for a choice of a few.
        return next((one for one in literals(self.annotation) if str(one) == text), text)


def choices_of(annotation: Any) -> list[str]:
    return ["true", "false"] if annotation is bool else [str(one) for one in literals(annotation)]


def literals(annotation: Any) -> list[Any]:
    """The values that are allowed, where only some are."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return [value for one in get_args(annotation) for value in literals(one)]
    return []


def entries_of(model: type[BaseModel], values: Mapping[str, Any], parents: tuple[str, ...] = ()) -> list[Entry]:
    """The fields of a model in order, those of models inside it after their heading's path."""
    entries = []
    for name, field in model.model_fields.items():
        inner = inner_model(field, values.get(name))
        path = (*parents, name)
        if inner is None:
            entries.append(Entry(path, field.annotation, field.get_default(), field.description or ""))
        else:
            below = values.get(name)
            entries += entries_of(inner, below if isinstance(below, Mapping) else {}, path)
            if isinstance(field.discriminator, str):
                # The name that chooses a model has no help of its own: the model says what it is for.
                chooses = (*path, field.discriminator)
                help = inspect.getdoc(inner) or field.description or ""
                entries = [replace(one, help=help) if one.path == chooses else one for one in entries]
    return entries


def inner_model(field: FieldInfo, value: Any) -> type[BaseModel] | None:
    """The model of a field that holds one; of a choice of models the one that the value names."""
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    if not models or not isinstance(field.discriminator, str):
        return None
    name = value.get(field.discriminator) if isinstance(value, Mapping) else None
    return next((one for one in models if one.model_fields[field.discriminator].default == name), models[0])


def discriminators(model: type[BaseModel]) -> dict[tuple[str, ...], list[str]]:
    """For each field that holds a choice of models: the path of the name that chooses, and the names."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.discriminator, str):
            models = [one for one in get_args(field.annotation) if issubclass(one, BaseModel)]
            found[(name, field.discriminator)] = [str(one.model_fields[field.discriminator].default) for one in models]
    return found


def empty_means(help: str) -> str:
    """What a field says while nothing is written in it, taken from the end of its help."""
    return help.partition("mpty takes ")[2].rstrip(".")


class Choice(Input):
    """A place to write where some words are known: up and down go through them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose(-1)", "Choice before", show=False),
        Binding("down", "choose(1)", "Next choice", show=False),
    ]

    def __init__(self, value: str, choices: Sequence[str], placeholder: str = "", *, id: str | None = None) -> None:
        known = [shown(choice) for choice in choices]
        suggester = SuggestFromList(known, case_sensitive=False) if known else None
        super().__init__(value, placeholder, suggester=suggester, id=id)
        self._choices = known

    def action_choose(self, by: int) -> None:
        if self._choices:
            here = self._choices.index(self.value) if self.value in self._choices else (-1 if by > 0 else 0)
            self.value = self._choices[(here + by) % len(self._choices)]
            self.action_select_all()


class Field(Horizontal):
    """A label, a place to write, and what is wrong with it."""

    DEFAULT_CSS = """
    Field { height: 1; }
    Field > .label { width: 27; color: $foreground 65%; }
    Field > Input { width: 1fr; min-width: 14; }
    Field > .fault { width: auto; max-width: 50%; padding: 0 1; color: $error; }
    Field.-wrong > .label { color: $error; text-style: bold; }
    """

    def __init__(self, entry: Entry, value: str, choices: list[str]) -> None:
        super().__init__()
        self.entry = entry
        self._value, self._choices = shown(value), choices

    def compose(self) -> Any:
        sign = "↕" if self._choices and not self.entry.is_list else ""
        yield Static(Content(f"  {self.entry.label:<23}{sign}"), classes="label")
        yield Choice(self._value, self._choices if sign else (), empty_means(self.entry.help))
        yield Words(classes="fault")

    @property
    def text(self) -> str:
        return self.query_one(Input).value

    @property
    def part(self) -> tuple[str, ...]:
        """The headings that the field stands under."""
        return self.entry.path[:-1]

    def mark(self, fault: str) -> None:
        """Say what is wrong, or nothing where the field is right."""
        self.set_class(bool(fault), "-wrong")
        self.query_one(".fault", Words).say(Content(f"! {shown_line(fault, 60)}" if fault else ""))


class Form(VerticalScroll, can_focus=False):
    """The fields of one kind of settings."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "part(-1)", "Part before", show=False),
        Binding("pagedown", "part(1)", "Next part", show=False),
    ]
    DEFAULT_CSS = """
    Form { height: 1fr; }
    Form > .heading { color: $primary; text-style: bold; }
    """

    @dataclass
    class FieldFocused(Message):
        """A field got the focus; `help` says what it is for."""

        help: str

    @dataclass
    class FaultsFound(Message):
        """The form was checked; so many of its fields are wrong."""

        count: int

    def __init__(
        self,
        model: type[BaseModel],
        values: Mapping[str, Any],
        choices: Mapping[str, list[str]] | None = None,
        leave_out: tuple[str, ...] = (),
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._model, self._values = model, dict(values)
        self._choices, self._leave_out = dict(choices or {}), leave_out

    def compose(self) -> Any:
        heading: tuple[str, ...] = ()
        names = discriminators(self._model)
        for entry in entries_of(self._model, self._values):
            if ".".join(entry.path) in self._leave_out or entry.path[0] in self._leave_out:
                continue
            if entry.path[:-1] != heading:
                heading = entry.path[:-1]
                yield Static(Content(heading[-1].capitalize()), classes="heading")
            value: Any = self._values
            for part in entry.path:
                value = value.get(part, entry.default) if isinstance(value, Mapping) else entry.default
            choices = self._choices.get(".".join(entry.path)) or names.get(entry.path) or entry.choices
            yield Field(entry, entry.text(value), choices)

    async def fill(self, values: Mapping[str, Any]) -> None:
        """Show other values; the field in hand keeps the focus, or the next one that is still there gets it."""
        self._values = dict(values)
        fields = list(self.query(Field))
        here = next((place for place, one in enumerate(fields) if one.has_focus_within), None)
        await self.recompose()
        if here is None:
            return
        there = {one.entry.path: one for one in self.query(Field)}
        # Where none after it is left, the last one before it.
        wanted = [one.entry.path for one in [*fields[here:], *reversed(fields[:here])]]
        if path := next((one for one in wanted if one in there), None):
            there[path].query_one(Input).focus()

    @property
    def values(self) -> dict[str, Any]:
        """What the fields say, nested, over what the form does not show."""
        written: dict[str, Any] = {}
        for field in self.query(Field):
            place = written
            *parents, last = field.entry.path
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = field.entry.value(field.text)
        return merged(self._values, written)

    @property
    def settings(self) -> BaseModel | None:
        """What the fields say, if all of them are right."""
        try:
            return self._model.model_validate(self.values)
        except ValidationError:
            return None

    def check(self) -> BaseModel | None:
        """The settings, or None after marking every field that is wrong."""
        try:
            settings = self._model.model_validate(self.values)
        except ValidationError as error:
            self.mark(dict(faults_of(error)))
            return None
        self.mark({})
        return settings

    def mark(self, faults: Mapping[str, str]) -> None:
        """Say beside each field what is wrong with it, and go to the first."""
        fields = list(self.query(Field))
        rest = dict(faults)
        wrong = []
        for field in fields:
            path = ".".join(field.entry.path)
            mine = next((key for key in rest if key == path or key.startswith(path + ".") or _same(key, path)), None)
            field.mark(_in_short(rest.pop(mine), field) if mine is not None else "")
            if mine is not None:
                wrong.append(field)
        if wrong:
            wrong[0].query_one(Input).focus()
        self.post_message(self.FaultsFound(len(faults)))

    def action_part(self, by: int) -> None:
        """Go to the first field under the next heading, or under the one before."""
        fields = list(self.query(Field))
        firsts = [place for place, one in enumerate(fields) if not place or one.part != fields[place - 1].part]
        # From above the form, the next part is its first.
        here = next((place for place, one in enumerate(fields) if one.has_focus_within), -1)
        before, after = [place for place in firsts if place < here], [place for place in firsts if place > here]
        for place in after[:1] if by > 0 else before[-1:]:
            fields[place].query_one(Input).focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        field = event.widget.parent
        if isinstance(field, Field):
            choices = f" One of: {', '.join(field._choices[:12])}." if field._choices else ""
            several = " Several, with ; between them." if field.entry.is_list else ""
            self.post_message(self.FieldFocused(f"{field.entry.help}{several}{choices}"))

    @on(Input.Blurred)
    async def _show_other_choice(self, event: Input.Blurred) -> None:
        """Another method has other fields."""
        field = event.input.parent
        if not isinstance(field, Field) or field.entry.path not in discriminators(self._model):
            return
        names = discriminators(self._model)[field.entry.path]
        name, parent = field.text.strip(), field.entry.path[0]
        before = self._values.get(parent, {})
        if name in names and name != (before.get(field.entry.path[1]) if isinstance(before, Mapping) else None):
            await self.fill({**self.values, parent: {field.entry.path[1]: name}})


def _same(fault: str, path: str) -> bool:
    """Whether pydantic's path of a fault, which names the chosen model on the way, means this field."""
    parts, wanted = fault.split("."), path.split(".")
    return len(parts) == len(wanted) + 1 and parts[0] == wanted[0] and parts[2:] == wanted[1:]


def _in_short(fault: str, field: Field) -> str:
    """The fault without what is to be seen in the field anyway."""
    if field._choices and "must be" in fault:
        return " ".join(field._choices[:8])
    return fault.partition(" (given:")[0]
