"""Models downloaded from the Hugging Face hub: only the files that are needed, once, into the workspace's own cache.

The cache is laid out as the hub's library lays it out, so other tools read it with HF_HOME set to the folder above.
That library begins an interrupted file anew; here it goes on, and what arrived is summed before it counts.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from studio import files
from studio.errors import StudioError, UsageError
from studio.models import stored
from studio.models.hub_files import wanted_files
from studio.secrets import Secret, find_secret
from studio.workspace import Workspace

Told = Callable[[str, int, int], None]
"""Told of a phase's name, what is done of it, and all there is."""

_MB = 1_000_000
_ATTEMPTS = 5
_MOVED = {"runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}


def download(
    workspace: Workspace, name: str, told: Told, choose: Callable[[str, Set[str]], list[str]] = wanted_files
) -> Path:
    """Download a model, or what is missing of it, and return its folder.

    Args:
        name: OWNER/NAME or OWNER/NAME@REVISION; the commit that it stands for now is kept from then on.
        choose: which of the files to take.

    Raises:
        UsageError: there is no such model, it may not be read, or it is of a kind that cannot be used.
        StudioError: the hub cannot be reached, the disk is full, or a file arrived damaged.
    """
    hub_id, _, revision = name.partition("@")
    revision = revision or stored.DEFAULT_REVISION
    endpoint, token = hub_address(), hub_token()
    with _in_sentences(hub_id, revision, endpoint):
        api = HfApi(endpoint=endpoint, token=token.reveal() if token else False)
        model = api.model_info(hub_id, revision=revision, files_metadata=True)
        siblings = {one.rfilename: one for one in model.siblings or []}
        commit = _hexadecimal(model.sha)
        wanted = [siblings[path] for path in choose(hub_id, set(siblings))]
        folder = stored.repository(stored.hub_cache(workspace), hub_id)
        snapshot = folder / "snapshots" / commit
        missing = [one for one in wanted if not (snapshot / one.rfilename).exists()]
        total, left = (sum(int(one.size) for one in some) for some in (wanted, missing))
        _check_room(folder, left)
        done = total - left

        def telling(before: int) -> Callable[[int], None]:
            return lambda there: told(f"Downloading {hub_id} (MB)", (before + there) // _MB, max(total // _MB, 1))

        telling(done)(0)
        for one in missing:
            url = f"{endpoint}/{hub_id}/resolve/{commit}/{one.rfilename}"
            _link(snapshot / one.rfilename, _blob(folder, one, url, token, telling(done)))
            done += one.size
    # Last, as these are what says that the download is whole.
    for ref in {revision, commit}:
        files.write_text(folder / "refs" / ref, commit)
    telling(max(total, _MB))(0)
    return snapshot


def hub_address() -> str:
    """Where the hub is: HF_ENDPOINT, else the public one."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def hub_token() -> Secret | None:
    """HF_TOKEN of the environment or of the studio's own folder, else that of `hf auth login`."""
    known = find_secret("HF_TOKEN")
    if known is not None:
        return known
    value = get_token()
    return Secret(value) if value else None


def _blob(folder: Path, file: Any, url: str, token: Secret | None, there: Callable[[int], None]) -> Path:
    """The content of one file under its sum, fetched from where an interrupted download ended."""
    sum_ = _hexadecimal(file.lfs.sha256 if file.lfs else file.blob_id)
    blob = folder / "blobs" / sum_
    if blob.is_file():
        return blob
    blob.parent.mkdir(parents=True, exist_ok=True)
    unfinished = blob.with_name(f"{blob.name}.incomplete")
    with unfinished.open("ab") as target:
        fcntl.flock(target, fcntl.LOCK_EX)  # another process may be at the same file
        if blob.is_file():
            return blob
        _receive(target, file.size, url, token, there)
        target.flush()
        os.fsync(target.fileno())
        if _sum_of(unfinished, is_large=bool(file.lfs)) != sum_:
            unfinished.unlink()
            raise StudioError(f"{file.rfilename} arrived damaged.", "Try again; it is downloaded anew.")
        unfinished.rename(blob)
    return blob


def _receive(target: BinaryIO, size: int, url: str, token: Secret | None, there: Callable[[int], None]) -> None:
    """Append what is missing; a connection that breaks is taken up again as long as something comes."""
    attempts = _ATTEMPTS
    while (at := target.tell()) < size:
        headers = build_hf_headers(token=token.reveal() if token else False, library_name="rs-studio")
        headers |= {"Accept-Encoding": "identity"} | ({"Range": f"bytes={at}-"} if at else {})
        try:
            with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
                hf_raise_for_status(response)
                if at and response.status_code == 200:  # the server gives the whole file instead
                    target.seek(0)
                    target.truncate()
                for chunk in response.iter_bytes():  # as they come, so that a break loses none
                    target.write(chunk)
                    there(target.tell())
        except HfHubHTTPError:
            raise
        except HTTPError:
            attempts = attempts - 1 if target.tell() <= at else _ATTEMPTS
            if attempts <= 0:
                raise
        else:
            if target.tell() <= at:
                raise StudioError(f"The hub sends too little of {url.rpartition('/')[2]}.", "Try again later.")


def _hexadecimal(sum_: object) -> str:
    """A sum that the hub tells, which becomes the name of a file here."""
    if not isinstance(sum_, str) or not re.fullmatch("[0-9a-f]{40,64}", sum_):
        raise StudioError(f"The hub tells {sum_!r} where a sum is expected.", "Look at HF_ENDPOINT.")
    return sum_


def _sum_of(path: Path, is_large: bool) -> str:
    """sha256 of what the hub keeps as a large file, git's own sum of the rest."""
    if is_large:
        return files.sha256_of(path)
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _link(path: Path, blob: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(blob, path.parent))


def _check_room(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StudioError(
            f"{needed / 1e9:.1f} GB are to be downloaded and {free / 1e9:.1f} GB are free.",
            "Make room, or use a workspace on another disk.",
        )


@contextmanager
def _in_sentences(hub_id: str, revision: str, endpoint: str) -> Iterator[None]:
    """What can go wrong between here and the hub, each as one sentence."""
    try:
        yield
    except OfflineModeIsEnabled:
        raise StudioError(
            f"{hub_id} is not here, and HF_HUB_OFFLINE forbids to look for it.", "Unset it to download the model."
        ) from None
    except GatedRepoError:
        raise UsageError(
            f"{hub_id} is gated: its owner wants terms to be accepted first.",
            f"Accept them at {endpoint}/{hub_id}, and set HF_TOKEN to a token of that account.",
        ) from None
    except RevisionNotFoundError:
        raise UsageError(f"{hub_id} has no revision {revision}.", f"See {endpoint}/{hub_id}/commits/main") from None
    except (RepositoryNotFoundError, HFValidationError):
        moved = _MOVED.get(hub_id)
        hint = f"It moved to {moved}." if moved else "Look at the name; for a private one set HF_TOKEN."
        raise UsageError(f"The hub has no model {hub_id}, or it is private.", hint) from None
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            raise UsageError(
                f"The hub refuses {hub_id} to this token ({code}).", "Set HF_TOKEN to one that may read it."
            ) from None
        raise StudioError(f"The hub answers {code} for {hub_id}.", "Try again later.") from None
    except HTTPError as error:
        raise StudioError(
            f"{endpoint} cannot be reached ({type(error).__name__}).",
            "Look at the network and try again; what has arrived is kept.",
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StudioError("The disk is full.", "Make room and try again; what has arrived is kept.") from None
        raise
