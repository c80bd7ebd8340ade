"""An export from its settings to whole files outside the workspace."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from studio import files
from studio.context import Context, Done
from studio.errors import StudioError, UsageError
from studio.events import Started
from studio.exports.contact_sheet import write_contact_sheet
from studio.exports.gallery import write_gallery
from studio.exports.image_folder import write_image_folder
from studio.exports.items import Selection, collect, find
from studio.exports.parquet import write_parquet
from studio.exports.pictures import Picture, Stopped, pictures
from studio.settings import RUN_FORMS, ExportSettings
from studio.workspace import Workspace

FOLDER_FORMS: dict[str, Callable[[Path, Selection, Iterator[Picture]], None]] = {
    "image-folder": write_image_folder,
    "parquet": write_parquet,
    "gallery": write_gallery,
}


def export(context: Context) -> Done:
    """Write what is asked for; the target appears whole or not at all.

    Returns `target`, `files` (how many there are) and `pictures` (how many of them were exported).
    """
    settings = context.settings
    assert isinstance(settings, ExportSettings)
    context.emit(Started("export", context.device))
    check_export(context.workspace, settings)
    target = Path(settings.target).expanduser().resolve()
    try:
        remove_remains(target)
        exported = _write(context, settings, target)
    except Stopped:
        return Done({"target": str(target), "files": 0}, "stopped")
    except OSError as error:
        reason = error.strerror or str(error)
        raise StudioError(f"{target} could not be written: {reason}.", "Make room or choose another target.") from error
    count = sum(path.is_file() for path in target.rglob("*")) if target.is_dir() else 1
    return Done({"target": str(target), "files": count, "pictures": exported})


def check_export(workspace: Workspace, settings: ExportSettings) -> None:
    """Raise where an export cannot begin; nothing is written.

    Raises:
        UsageError: the name is unknown or of a kind that has no such form, or the target is taken or cannot be made.
    """
    kind, _ = find(workspace, settings.name)
    if settings.to not in RUN_FORMS and settings.precision != ExportSettings.model_fields["precision"].default:
        raise UsageError("Pictures have no precision to choose; the weights of a run do.", "Leave --precision out.")
    if settings.to in RUN_FORMS:
        if kind != "run":
            what = "a model" if settings.to == "model" else "an adapter"
            raise UsageError(
                f"{settings.name} is a {kind}; {what} comes from a run.", "See them with: rs-studio WS runs"
            )
        _check_run(workspace, settings)
    elif kind == "run":
        raise UsageError(f"{settings.name} is a run and holds no pictures.", "Export it with --to adapter.")
    check_target(settings)


def _check_run(workspace: Workspace, settings: ExportSettings) -> None:
    # Here, as they bring torch.
    if settings.to == "model":
        from studio.exports.whole_model import resolve_model

        resolve_model(workspace, settings.name)
    else:
        from studio.exports.adapters import resolve_adapter

        resolve_adapter(workspace, settings)


def check_target(settings: ExportSettings) -> None:
    """Raise unless the target is absent, or an empty folder where a folder is wanted.

    Raises:
        UsageError: it is taken, or lies where nothing can be made.
    """
    target, is_file = Path(settings.target).expanduser().resolve(), settings.to == "contact-sheet"
    if is_file and (target.is_dir() or target.suffix.lower() not in ("", ".png")):
        raise UsageError(f"{target} cannot be a contact sheet.", "Name a file that ends in .png.")
    if not (is_file and _is_empty_file(target)) and not files.folder_is_empty(target):
        raise UsageError(f"{target} is there already.", "Name a target that is empty or absent.")
    above = next(path for path in target.parents if path.exists())
    if not above.is_dir():
        raise UsageError(f"{above} is a file, so {target} cannot be made.", "Name another target.")
    if not os.access(above, os.W_OK):
        raise UsageError(f"{above} may not be written to.", "Name another target.")


def _is_empty_file(path: Path) -> bool:
    return path.is_file() and not path.stat().st_size


def _write(context: Context, settings: ExportSettings, target: Path) -> int:
    """Write one export, and say how many pictures it has."""
    if settings.to in RUN_FORMS:
        with files.whole_folder(target) as folder:
            _write_run(folder, context.workspace, settings)
        return 0
    selection = collect(context.workspace, settings.name)
    count = 0

    def counted() -> Iterator[Picture]:
        nonlocal count
        for picture in pictures(context, selection):
            count += 1
            yield picture

    if settings.to == "contact-sheet":
        with files.replacing(target) as path:
            write_contact_sheet(path, selection, counted())
    else:
        with files.whole_folder(target) as folder:
            FOLDER_FORMS[settings.to](folder, selection, counted())
    return count


def _write_run(folder: Path, workspace: Workspace, settings: ExportSettings) -> None:
    # Here, as they bring torch.
    if settings.to == "model":
        from studio.exports.whole_model import write_model

        write_model(folder, workspace, settings)
    else:
        from studio.exports.adapters import write_adapter

        write_adapter(folder, workspace, settings)


def remove_remains(target: Path) -> None:
    """Delete what killed exports to the same target left beside it."""
    for path in target.parent.glob(f"{files.TEMPORARY}*-*"):
        process, _, name = path.name.removeprefix(files.TEMPORARY).partition("-")
        if name != target.name or not process.isdigit() or _is_alive(int(process)):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()
