"""A small hub on loopback, for the real clients: repositories, revisions, uploads and faults.

`server = HubServer()` within `server.running()`; clients find it by `HF_ENDPOINT=server.url`, which
they read when imported, so they run in a child process: `server.python(code, home)`.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LFS_FROM = 1024  # bytes; larger files have a SHA-256, as at the hub
PROJECT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN")


@dataclass
class Repository:
    """The files of each commit, and the commit of each branch."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(
        self, files: Mapping[str, bytes], branch: str = "main", sha: str | None = None
    ) -> str:
        """Move the branch to a new commit with exactly these files."""
        sha = sha or hashlib.sha1(repr([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.branches[branch] = sha
        return sha

    def at(self, revision: str) -> str | None:
        """The commit of a branch, or a commit."""
        return self.branches.get(revision, revision if revision in self.commits else None)


class HubServer(ThreadingHTTPServer):
    """The hub; `faults[path]` is a queue of faults for downloads of files that end in that path.

    A fault is a status, "cut" (the connection ends in the middle) or "wrong" (other bytes).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[tuple[str, str], Repository] = defaultdict(Repository)
        self.faults: dict[str, list[int | str]] = {}
        self.asked: list[str] = []
        self.uploaded: dict[str, bytes] = {}
        self.retry_after = "0"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def model(self, name: str) -> Repository:
        return self.repositories["models", name]

    def dataset(self, name: str) -> Repository:
        return self.repositories["datasets", name]

    @contextmanager
    def running(self) -> Iterator["HubServer"]:
        thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def environment(self, home: Path, **variables: str) -> dict[str, str]:
        """For a process whose clients know this hub alone and keep everything in `home`."""
        kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return kept | own | variables

    def python(self, code: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        environment = self.environment(home, **variables)
        return subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            return self._send(200)
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?", path):
            kind, name, rest = found[1], found[2], found[3] or "revision/main"
            word, _, inner = rest.partition("/")
            if word == "revision":
                return self._info(kind, name, inner)
            if word == "tree":
                return self._tree(kind, name, *inner.partition("/")[::2])
            if word == "paths-info":
                return self._json([])
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file("datasets" if found[1] else "models", *found.groups()[1:])
        return self._refuse(404, "")

    do_HEAD = do_GET  # noqa: N815 - as the base class calls it

    def do_PUT(self) -> None:
        content = self._body()
        self.server.uploaded[hashlib.sha256(content).hexdigest()] = content
        self._send(200)

    def do_POST(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body, path = self._body(), unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if not self._authorised():
                return self._refuse(401, "")
            if ("models", name) not in self.server.repositories:
                self.server.model(name).commit({})
            return self._json({"url": f"{self.server.url}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                each | {"actions": {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/(.+)", path):
            if found[2] == "preupload":
                return self._json({"files": [_upload(each) for each in json.loads(body)["files"]]})
            return self._commit(found[1], found[3], body)
        return self._json([])  # paths-info

    def _commit(self, name: str, branch: str, body: bytes) -> None:
        repository = self.server.repositories.get(("models", name))
        if repository is None or not self._authorised():
            return self._refuse(403, "")
        files = dict(repository.commits.get(repository.branches.get(branch, ""), {}))
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.uploaded[value["oid"]]
        sha = repository.commit(files, branch)
        self._json({"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha,
                    "hookOutput": "", "pullRequestUrl": None})  # fmt: skip

    def _commit_of(self, kind: str, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.server.repositories.get((kind, name))
        if repository is None:
            self._refuse(401, "RepoNotFound")
        elif repository.gated and not self._authorised():
            self._refuse(401, "GatedRepo")
        elif (sha := repository.at(revision)) is None:
            self._refuse(404, "RevisionNotFound")
        else:
            return repository, sha
        return None

    def _info(self, kind: str, name: str, revision: str) -> None:
        # Like the hub, the files of a gated repository are listed for everybody.
        repository = self.server.repositories.get((kind, name))
        if repository is None:
            return self._refuse(401, "RepoNotFound")
        sha = repository.at(revision)
        if sha is None:
            return self._refuse(404, "RevisionNotFound")
        siblings = [
            {"rfilename": path} | _hashes(content)
            for path, content in repository.commits[sha].items()
        ]
        self._json({"id": name, "sha": sha, "siblings": siblings, "tags": [], "private": False,
                    "gated": "manual" if repository.gated else False})  # fmt: skip

    def _tree(self, kind: str, name: str, revision: str, folder: str) -> None:
        if found := self._commit_of(kind, name, revision):
            files = found[0].commits[found[1]]
            listed = {path: content for path, content in files.items() if path.startswith(folder)}
            if folder and not listed:
                return self._refuse(404, "EntryNotFound")
            self._json([
                {"type": "file", "path": path, "oid": "0"} | _hashes(content)
                for path, content in listed.items()
            ])  # fmt: skip

    def _file(self, kind: str, name: str, revision: str, path: str) -> None:
        found = self._commit_of(kind, name, revision)
        if found is None:
            return None
        content = found[0].commits[found[1]].get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        hashes, size = _hashes(content), len(content)
        queue = next((q for end, q in self.server.faults.items() if path.endswith(end)), [])
        fault = queue.pop(0) if queue and self.command == "GET" else None
        if isinstance(fault, int):
            return self._refuse(fault, "")
        if fault == "wrong":
            content = bytes(len(content))
        start = 0
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start = int(asked[1])
            content = content[start : int(asked[2]) + 1 if asked[2] else None]
        headers = {
            "ETag": f'"{hashes["lfs"]["sha256"] if "lfs" in hashes else hashes["blobId"]}"',
            "X-Repo-Commit": found[1],
            "X-Linked-Size": str(size),
            "Accept-Ranges": "bytes",
        }
        if asked:
            headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{size}"
        self._send(206 if asked else 200, content, cut=fault == "cut", **headers)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _authorised(self) -> bool:
        return bool(self.headers.get("Authorization"))

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        own = {"X-Error-Code": code} if code else {}
        if status == 429:
            own["Retry-After"] = self.server.retry_after
        if code == "GatedRepo":
            own["X-Error-Message"] = "Access is restricted."
        self._send(status, **own)

    def _send(
        self, status: int, content: bytes = b"", *, cut: bool = False, **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


def _hashes(content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    found: dict[str, Any] = {"size": len(content), "blobId": blob}
    if len(content) >= LFS_FROM:
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"sha256": digest, "oid": digest, "size": len(content), "pointerSize": 130}
    return found


def _upload(asked: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if asked["size"] >= LFS_FROM else "regular"
    return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}
