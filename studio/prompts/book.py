"""Prompt books: files of prompts, templates and negative prompts that a person keeps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT

from studio import config, files
from studio.config import Model
from studio.errors import unknown
from studio.workspace import TEMPLATE, Workspace, check_name

DEFAULT_BOOK = "my-prompts"


class Prompt(Model):
    """One prompt of a book."""

    prompt: str
    """What is asked for; may hold {a|b} choices."""
    name: str = ""
    """A short name to find it by."""
    negative: str = ""
    """What to steer away from."""
    label: str = ""
    """The class that its tiles should belong to."""
    tags: tuple[str, ...] = ()
    """Words to filter by."""


class Template(Model):
    """Words around any prompt."""

    name: str
    """A short name to find it by."""
    before: str = ""
    """Put before the prompt, as it is written."""
    after: str = ""
    """Put behind the prompt, as it is written."""
    note: str = ""
    """Where it comes from or what it is for."""


class Negative(Model):
    """A negative prompt for any prompt."""

    name: str
    """A short name to find it by."""
    text: str
    """What to steer away from."""
    note: str = ""
    """Where it comes from or what it is for."""


class Book(Model):
    """prompts/NAME.toml."""

    title: str = ""
    """What the book is called."""
    description: str = ""
    """What it is about."""
    prompts: tuple[Prompt, ...] = ()
    """Its prompts, in order."""
    templates: tuple[Template, ...] = ()
    """Words to put around prompts."""
    negatives: tuple[Negative, ...] = ()
    """Negative prompts to choose from."""


def books(workspace: Workspace) -> dict[str, Path]:
    """The books of a workspace by name; those of the template where it has none yet."""
    folder = workspace.prompts if workspace.prompts.is_dir() else TEMPLATE / "prompts"
    return {path.stem: path for path in sorted(folder.glob("[!.]*.toml"))}


def load_book(path: Path) -> Book:
    """A book from its file.

    Raises:
        UsageError: there is no such file.
        SettingsError: every fault of the file at once.
    """
    return config.load(path, Book)


def open_book(workspace: Workspace, name: str) -> Book:
    """A book by its name; raises as `load_book`, and offers the nearest name."""
    known = books(workspace)
    if name not in known:
        raise unknown("prompt book", name, known)
    return load_book(known[name])


def save_book(workspace: Workspace, name: str, book: Book) -> None:
    """Write a book, whole or not at all; comments outside its lists stay."""
    config.save(_path(workspace, name), Book.model_validate(_writable(book.model_dump())))


def add_prompts(workspace: Workspace, prompts: Iterable[Prompt], name: str = DEFAULT_BOOK) -> Book:
    """Put prompts at the end of a book, made where it is not there; one that it holds already is not added again.

    The rest of the file stays as a person wrote it.

    Raises:
        UsageError: the name cannot be used.
        SettingsError: the book has faults.
    """
    path = _path(workspace, name)
    text = path.read_text("utf-8") if path.is_file() else 'title = "My prompts"\n'
    book = load_book(path) if path.is_file() else Book()
    held = {(one.prompt, one.negative, one.label) for one in book.prompts}
    new = [one for one in prompts if (one.prompt, one.negative, one.label) not in held]
    document = tomlkit.parse(text)
    if not isinstance(document.get("prompts"), AoT):  # none yet, or all on one line
        document["prompts"] = tomlkit.aot()
        new = [*book.prompts, *new]
    for one in new:
        document["prompts"].append(tomlkit.item(_writable(one.model_dump(exclude_defaults=True))))
    files.write_text(path, tomlkit.dumps(document))
    return load_book(path)


def framed(prompt: str, template: Template) -> str:
    """A prompt with a template's words around it."""
    return f"{template.before}{prompt}{template.after}"


def _path(workspace: Workspace, name: str) -> Path:
    return workspace.prompts / f"{check_name(name, 'name of a prompt book')}.toml"


def _writable(value: Any) -> Any:
    """Nested values with half characters written out, since TOML cannot hold them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _writable(one) for key, one in value.items()}
    return [_writable(one) for one in value] if isinstance(value, list | tuple) else value
