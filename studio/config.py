"""Settings: read from TOML, checked all at once, and written back without losing a user's comments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli
import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files
from studio.display import shown_line
from studio.errors import SettingsError, UsageError, unknown


class Model(BaseModel):
    """Settings that refuse what they do not know and never change once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True)


Settings = TypeVar("Settings", bound=BaseModel)


class WorkspaceSettings(Model):
    """studio.toml: what holds for the whole workspace."""

    schema_number: int = Field(1, alias="schema", ge=1, le=1)
    """Which shape of workspace this is."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """Where jobs run unless they say otherwise: auto, cpu, cuda:0, …"""
    theme: str = "studio"
    """Colours of the interface: any of Textual's themes, or studio."""
    pictures: str = Field("auto", pattern=r"^(auto|sixel|halfcell|off)$")
    """How pictures are drawn in the terminal."""
    cpu_threads: int = Field(0, ge=0, le=1024)
    """Threads a CPU job computes with; 0 leaves one core for the interface."""


def load(path: Path, model: type[Settings], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a TOML file, with values set over it.

    Raises:
        SettingsError: every fault of the file at once, each with its path.
    """
    return check(read_toml(path), model, str(path), overrides)


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file; bytes of odd file names in it come back as they were.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        SettingsError: it is not TOML.
    """
    try:
        return tomli.loads(path.read_text("utf-8", "surrogateescape"))
    except FileNotFoundError:
        raise UsageError(f"There is no settings file {path}.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).", "Name a TOML file that you may read.") from None
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(str(path), [("file", f"is not TOML ({error})")]) from None


def check(
    values: Mapping[str, Any], model: type[Settings], source: str, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Settings from plain values.

    Raises:
        SettingsError: every fault at once, each with its path.
    """
    try:
        return model.model_validate(merged(values, overrides or {}))
    except ValidationError as error:
        raise SettingsError(source, faults_of(error)) from None


def faults_of(error: ValidationError) -> list[tuple[str, str]]:
    """(dotted path, what is wrong) of every fault, in words for people; what is wrong with the whole has no path."""
    return [(".".join(map(str, fault["loc"])), _in_words(fault)) for fault in error.errors()]


def _in_words(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "is not a setting"
    message: str = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    # Settings that do not go together say themselves which; all of them would be the input.
    is_of_whole = fault["type"] == "value_error" and isinstance(fault["input"], Mapping)
    given = "" if is_of_whole or fault["type"] == "missing" else f" (given: {shown_line(repr(fault['input']), 60)})"
    return message[0].lower() + message[1:] + given


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values by their dotted paths."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with others laid over them."""
    result = dict(values)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def parse_sets(pairs: list[str], model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of `key=value` words; a key is a dotted path, or its last part where only one setting has it.

    Raises:
        UsageError: a word without '=', an unknown key, or a last part that several settings have.
    """
    paths = setting_paths(model, values)
    nested: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair} has no value.", "Write --set steps=200.")
        place = nested
        *parents, last = _full_path(key.strip(), paths).split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = _toml_value(text.strip())
    return nested


def setting_paths(model: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """The dotted path of every setting of a model; of a choice of models, those of the chosen one."""
    paths = []
    for name, field in model.model_fields.items():
        inner = _inner_model(field.annotation, field.discriminator, values.get(name))
        if inner is None:
            paths.append(name)
        else:
            below = values.get(name)
            paths += [f"{name}.{path}" for path in setting_paths(inner, below if isinstance(below, Mapping) else {})]
    return paths


def _inner_model(annotation: Any, discriminator: Any, value: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    options = [
        one for one in getattr(annotation, "__args__", ()) if isinstance(one, type) and issubclass(one, BaseModel)
    ]
    if not options or not isinstance(discriminator, str):
        return None
    chosen = value.get(discriminator) if isinstance(value, Mapping) else None
    return next((one for one in options if one.model_fields[discriminator].default == chosen), options[0])


def _full_path(key: str, paths: list[str]) -> str:
    if key in paths:
        return key
    ends = [path for path in paths if path.endswith("." + key)]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UsageError(f"--set {key} could mean {' or '.join(ends)}.", "Write the whole path.")
    raise unknown("setting", key, {*paths, *(path.rpartition(".")[2] for path in paths)})


def _toml_value(text: str) -> Any:
    try:
        values = tomli.loads(f"value = {text}")
    except (tomli.TOMLDecodeError, RecursionError):
        return text  # a bare word is a string
    return values["value"] if len(values) == 1 else text


def save(path: Path, settings: BaseModel) -> None:
    """Write settings as TOML; where the file exists, its comments and order stay."""
    document = tomlkit.parse(path.read_text("utf-8")) if path.is_file() else tomlkit.document()
    _lay_over(document, _without_none(settings.model_dump(mode="json", by_alias=True)))
    files.write_text(path, tomlkit.dumps(document))


def _lay_over(table: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(table.get(key), Mapping):
            _lay_over(table[key], value)
        elif table.get(key) != value:
            table[key] = value


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list) else value
