"""A stand-in for the Hugging Face hub on the loopback: what its client asks of it, for a few repositories in memory."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

PATHS = re.compile(
    r"/(?:api/)?(?P<kind>models/|datasets/)?(?P<name>[\w.-]+/[\w.-]+?)"
    r"(?:/(?P<verb>revision|tree|resolve|paths-info)/(?P<revision>[^/?]+)(?:/(?P<file>[^?]*))?)?(?:\?.*)?$"
)


@dataclass
class Repository:
    """Files by name at each revision, and how the hub answers for them.

    Attributes:
        revisions: branch or tag → its files. refusal: status and X-Error-Code of every answer, where there is one.
        cut: files of which the answer ends early. parameters: how many the hub counts in the safetensors, if it does.
    """

    revisions: dict[str, dict[str, bytes]]
    refusal: tuple[int, str] | None = None
    cut: tuple[str, ...] = ()
    parameters: int = 0

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, a tag or a commit; none where there is none."""
        commits = {digest(key.encode()): key for key in self.revisions}
        return revision if revision in commits else digest(revision.encode()) if revision in self.revisions else None


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    """A folder's files by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def serve(repositories: dict[str, Repository]) -> Iterator[str]:
    """Serve repositories until the block ends; gives the address for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for key, value in ({"content_length": str(len(body))} | headers).items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            found = PATHS.match(self.path)
            repository = repositories.get(found["name"]) if found else None
            if found is None or repository is None:
                return self.answer(401, b"{}", x_error_code="RepoNotFound")
            if repository.refusal is not None:
                return self.answer(repository.refusal[0], b"{}", x_error_code=repository.refusal[1])
            commit = repository.commit(found["revision"] or "main")
            if commit is None:
                return self.answer(404, b"{}", x_error_code="RevisionNotFound")
            files = next(files for key, files in repository.revisions.items() if repository.commit(key) == commit)
            if found["verb"] == "resolve":
                if found["file"] not in files:
                    return self.answer(404, b"", x_error_code="EntryNotFound")
                body = files[found["file"]]
                headers = {"x_repo_commit": commit, "etag": f'"{digest(body)}"', "content_length": str(len(body))}
                if found["file"] in repository.cut and self.command == "GET":
                    body, self.close_connection = body[: len(body) // 2], True
                return self.answer(200, body, **headers)
            told: Any = [
                {"type": "file", "path": name, "rfilename": name, "size": len(body), "oid": digest(body)}
                for name, body in files.items()
            ]
            if found["verb"] not in ("tree", "paths-info"):
                told = {"id": found["name"], "sha": commit, "siblings": told}
                if total := repository.parameters:
                    told["safetensors"] = {"parameters": {"F32": total}, "total": total}
            return self.answer(200, json.dumps(told).encode(), content_type="application/json")

        do_HEAD = do_POST = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def program(home: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, whose hub is at `endpoint`: the client reads its environment when imported."""
    left_out = ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "no_proxy": "127.0.0.1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
