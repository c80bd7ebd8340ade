"""A hub on loopback that speaks the hub's file protocol: what is asked of it is kept, and it can break off."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A repository OWNER/NAME made of a folder's files, with a token and faults where wanted."""

    folder: Path
    hub_id: str = "someone/some-model"
    token: str = ""
    gated: bool = False
    break_after: int = 0
    """Bytes of large files after which the connection breaks, once for each request; 0 never."""
    damaged: bool = False
    ignores_ranges: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(path, Range, Authorization) in their order."""
    address: str = ""

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def asked(self, name: str) -> list[str]:
        """The ranges that were asked of a file."""
        return [range_ for path, range_, _ in self.requests if path == f"/cdn/{name}"]

    def siblings(self) -> list[dict[str, Any]]:
        return [
            {"rfilename": name, "size": len(data), "blobId": git_sum(data)}
            | ({"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}}
               if name.endswith(".safetensors") else {})
            for name, data in self.files().items()
        ]  # fmt: skip

    def __enter__(self) -> "Hub":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                hub.requests.append((path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
                if path.startswith("/cdn/"):
                    return self.send_file(path.removeprefix("/cdn/"))
                if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                    return self.refuse(401, "GatedRepo" if hub.gated else "RepoNotFound")
                if not path.startswith((f"/api/models/{hub.hub_id}", f"/{hub.hub_id}/")):
                    return self.refuse(404, "RepoNotFound")
                if path.startswith("/api/"):
                    if path.rpartition("/")[2] not in ("main", COMMIT):
                        return self.refuse(404, "RevisionNotFound")
                    return self.answer(json.dumps({"id": hub.hub_id, "sha": COMMIT, "siblings": hub.siblings()}))
                self.send_response(302)
                self.send_header("Location", f"{hub.address}/cdn/{path.partition(f'/{COMMIT}/')[2]}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None

            def answer(self, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def refuse(self, code: int, why: str) -> None:
                self.send_response(code)
                self.send_header("X-Error-Code", why)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def send_file(self, name: str) -> None:
                data = hub.files()[name]
                start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if not hub.ignores_ranges else 0
                rest = data[start:]
                if hub.damaged and name.endswith(".safetensors"):
                    rest = bytes([rest[0] ^ 1]) + rest[1:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(rest)))
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if hub.break_after and name.endswith(".safetensors") and len(rest) > hub.break_after:
                    self.wfile.write(rest[: hub.break_after])
                    self.close_connection = True
                    return
                self.wfile.write(rest)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def git_sum(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
