"""The lock file of `zia fetch`: revisions and hashes of what came from the hub.

`hub.lock.json`, to be committed, so that others fetch the same files where the project itself pins
no revision. By kind ("models", "datasets") and name: `revision`, the SHA-256 of each file at the
hub (`files`), and of each official file made from them (`written`). A further revision of a model
is recorded as `owner/name@revision`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from experiments.io.files import read_json, write_json_atomic
from zia_core.errors import ZiaError

Kind = Literal["models", "datasets"]


@dataclass
class Lock:
    """The content of a lock file."""

    path: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Lock":
        """Return the lock in `path`, or an empty one; ZiaError if the file is not a lock."""
        entries = read_json(path) if path.exists() else {}
        for kind, of_kind in entries.items():
            if kind not in ("models", "datasets") or not isinstance(of_kind, dict):
                raise ZiaError(f"{path} is not a lock file: restore it, or delete it")
            for name, entry in of_kind.items():
                known = entry if isinstance(entry, dict) else {}
                if not isinstance(known.get("revision"), str) or not isinstance(
                    known.get("files"), dict
                ):
                    raise ZiaError(f"{path}: {name} needs a revision and files: restore the file")
        return cls(path, entries)

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """What is recorded of a repository."""
        return self.entries.get(kind, {}).get(name)

    def model_files(self, name: str | None, revision: str | None) -> Mapping[str, str]:
        """The recorded SHA-256 of each file of a model; none of another revision than this."""
        for each in (name, f"{name}@{revision}"):
            entry = self.get("models", each or "")
            if entry is not None and revision in (None, entry["revision"]):
                files: Mapping[str, str] = entry["files"]
                return files
        return {}

    def record(self, kind: Kind, name: str, entry: dict[str, Any]) -> None:
        """Record a repository and write the file; a second revision beside the first."""
        known = self.get(kind, name)
        if kind == "models" and known is not None and known["revision"] != entry["revision"]:
            name = f"{name}@{entry['revision']}"
        if self.get(kind, name) != entry:
            self.entries.setdefault(kind, {})[name] = entry
            write_json_atomic(self.path, {k: dict(sorted(v.items())) for k, v in
                                          sorted(self.entries.items())})  # fmt: skip
