"""Turns finished runs into evidence that can be committed: small, scrubbed, with hashes.

`python -m experiments.harness.publish RUNS_DIR DEST` copies every finished run to DEST. Only text
files at the top of a run folder are taken: no weights, checkpoints or owner files. Hosts become
host-1, host-2, ... and absolute paths become relative to `$ZIA_DATA`, to the home folder (`~`), or
lose their folders. Each copy has a seal of its own bytes.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.harness import seal, stored
from experiments.harness.files import (
    canonical_json,
    check_output,
    read_json,
    read_lines,
    write_atomic,
    write_json_atomic,
)
from experiments.harness.output import plain, tell
from experiments.harness.spec import RunSpec
from experiments.harness.stored import StoredRun
from zia_core.errors import ZiaError

SHOWN = 5  # runs that differ from the published ones
HOST_KEYS = frozenset({"host", "hostname", "node"})
# A prediction is our output beside an id; the data set's own texts stay with the data set.
REFERENCE_KEYS = frozenset({"reference", "references", "answer", "answers", "target", "targets"})
# A web address (kept), "/a/b" or "C:\a\b"; "tokens/s" and "../a" are none of these.
URL_OR_PATH = re.compile(
    r"(?P<url>\bhttps?://\S+)|(?<![\w.~])(?:/[\w.+@-]+)+/?|\b[A-Za-z]:(?:\\[^\s\\\"',;]+)+"
)


class Scrubber:
    """Replaces what identifies a machine or a person; one instance per evidence folder.

    Hosts are numbered in the order in which they are met, so that runs of one host stay together.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}
        # The longest prefix first: data often lie under the home folder.
        named = [("$ZIA_DATA", os.environ.get("ZIA_DATA")), ("~", str(Path.home()))]
        self._prefixes = sorted(
            ((path.rstrip("/\\"), name) for name, path in named if path and path != "/"),
            key=lambda pair: -len(pair[0]),
        )

    def collect_hosts(self, value: Any) -> None:
        """Remember every host named under a key such as `host`, anywhere inside a JSON value."""
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in HOST_KEYS and isinstance(inner, str) and inner:
                    self._hosts.setdefault(inner, f"host-{len(self._hosts) + 1}")
                self.collect_hosts(inner)
        elif isinstance(value, list):
            for inner in value:
                self.collect_hosts(inner)

    def scrub(self, value: Any) -> Any:
        """The JSON value with hosts and absolute paths replaced, in keys as well."""
        if isinstance(value, dict):
            return {self._text(key): self.scrub(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.scrub(inner) for inner in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for host, name in self._hosts.items():
            text = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", name, text)
        for prefix, name in self._prefixes:
            text = re.sub(rf"{re.escape(prefix)}(?![\w.-])", name, text)
        return URL_OR_PATH.sub(_without_folders, text)


def _without_folders(found: re.Match[str]) -> str:
    """The last part of an absolute path, unless it may be somebody's name (/home/somebody)."""
    if found["url"]:
        return found[0]
    parts = [part for part in re.split(r"[/\\]", found[0]) if part and not part.endswith(":")]
    return parts[-1] if len(parts) > 2 else "<path>"


def publish(runs_root: Path, destination: Path) -> list[Path]:
    """Copy every finished run under `runs_root` to `destination`; return the new folders.

    A run that is there already is left as it is: evidence is not rewritten.
    Raises ZiaError if a run holds something that may not be published.
    """
    check_output(destination)
    finished = [run for run in stored.states(runs_root) if run.state == "done"]
    scrubber = Scrubber()
    for run in finished:
        scrubber.collect_hosts([run.environment, run.status])
    copies = [(run, destination / run.path.relative_to(runs_root)) for run in finished]
    return [scrub(run, copy, scrubber) for run, copy in copies if not copy.exists()]


def scrub(run: StoredRun, destination: Path, scrubber: Scrubber) -> Path:
    """Copy one finished run to the folder `destination`, without what may not be published.

    Raises ZiaError if its predictions contain reference texts, or if its config holds an absolute
    path (scrubbing that would change the run's identity); then nothing is left at `destination`.
    """
    check_publishable(run)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".publishing-", dir=destination.parent) as temporary:
        copy = Path(temporary, "run")
        copy.mkdir()
        for source in sorted(run.path.iterdir()):
            if source.name == seal.SEAL:
                continue
            target = copy / source.name
            if source.name in (stored.CONFIG, stored.PREDICTIONS, stored.ANSWERS):
                write_atomic(target, source.read_bytes())
            elif source.suffix == ".json":
                write_json_atomic(target, scrubber.scrub(read_json(source)))
            elif source.suffix == ".jsonl":
                lines = [canonical_json(scrubber.scrub(line)) for line in read_lines(source)]
                write_atomic(target, "".join(f"{line}\n" for line in lines))
        seal.write(copy)
        copy.rename(destination)
    return destination


def check_publishable(run: StoredRun) -> None:
    """Raise ZiaError if config.json or the predictions may not leave this machine."""
    if Scrubber().scrub(run.config) != run.config:
        raise ZiaError(
            f"{run.path / stored.CONFIG} contains an absolute path; a path is no part of a run's "
            "identity, so take it out of the settings"
        )
    if not (run.path / stored.PREDICTIONS).exists():
        return
    for record in run.predictions():
        if found := REFERENCE_KEYS & record.keys():
            raise ZiaError(
                f"{run.path / stored.PREDICTIONS} contains reference texts (key {min(found)!r}); "
                "predictions are ids and our outputs only"
            )


def compare(specs: Sequence[RunSpec], runs_root: Path, published: Path) -> Iterator[str]:
    """Say how many finished runs give the numbers of their evidence in `published`.

    Where one does not, it says from which step on; of many, of the first few. metrics.jsonl holds
    nothing that depends on the clock, so the same code on the same kind of machine repeats it to
    the last digit.
    """
    found = list(_differences(specs, runs_root, published))
    different = [sentence for sentence in found if sentence is not None]
    if found:
        same = len(found) - len(different)
        yield f"{same} of {len(found)} runs are as published, to the last digit"
    yield from different[:SHOWN]
    if len(different) > SHOWN:
        yield f"and so on: {len(different) - SHOWN} more differ"


def _differences(
    specs: Sequence[RunSpec], runs_root: Path, published: Path
) -> Iterator[str | None]:
    """What is different about each finished run that has evidence; None where nothing is."""
    for spec in specs:
        name = Path(spec.experiment, spec.folder_name)
        ours, theirs = runs_root / name, published / name
        if not theirs.exists() or stored.read_status(ours)["state"] != "done":
            continue
        pairs = zip_longest(read_lines(ours / stored.METRICS), read_lines(theirs / stored.METRICS))
        different = next(
            ((mine or {}, old or {}) for mine, old in pairs if not _repeats(mine, old)), None
        )
        if different is None:
            yield None
        else:
            step = different[0].get("step", different[1].get("step"))
            keys = sorted(key for key in different[0] | different[1] if key != "step")
            values = ", ".join(
                f"{key} {different[0].get(key)} (published {different[1].get(key)})"
                for key in keys
                if different[0].get(key) != different[1].get(key)
            )
            yield f"{name}: differs from the published run at step {step}: {values}"


def _repeats(mine: dict[str, Any] | None, old: dict[str, Any] | None) -> bool:
    """Whether two records say the same; what only one of the two codes records is no difference."""
    if mine is None or old is None:
        return False
    both = mine.keys() & old.keys()
    told = bool(both - {"step"}) or mine.keys() == old.keys()
    return told and all(mine[key] == old[key] for key in both)


def main() -> None:
    """Publish from the command line: two arguments, the runs folder and the destination."""
    try:
        runs_root, destination = map(Path, sys.argv[1:])
    except ValueError:
        sys.exit("usage: python -m experiments.harness.publish RUNS_DIR DEST")
    try:
        for folder in publish(runs_root, destination):
            tell(folder)
    except ZiaError as error:
        sys.exit(plain(f"publish: {error}"))


if __name__ == "__main__":
    main()
