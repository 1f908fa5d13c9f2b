"""Publish finished runs: scrubbed, sealed, in archives small enough to be committed.

`zia publish RUNS DEST` adds every finished run to `DEST/<experiment>-<profile>.zip`, if
`zia verify` finds nothing wrong with any of them. Only the files in `EVIDENCE` are taken, and none
through a link: weights, checkpoints, owner files and per-step timings (whose sum is in result.json)
stay behind, and so does anything that others have put there. Hosts become host-1, host-2, ... and
absolute paths become relative to `$ZIA_DATA`, to the home folder (`~`), or lose their folders (see
`scrub`).
"""

import fcntl
import gzip
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from experiments.harness import archive, run_paths, seal, stored
from experiments.harness.archive import Archive, ArchivedRun, RunPath
from experiments.harness.rehearsal import is_rehearsal
from experiments.harness.scrub import Scrubber
from experiments.harness.spec import RunSpec
from experiments.harness.stored import StoredRun
from experiments.harness.verify import verify_run
from experiments.io.files import (
    canonical_json,
    check_output,
    indented_json,
    read_json,
    read_lines,
    write_errors,
)
from experiments.io.safe_names import inside
from zia_core.errors import ZiaError

SHOWN = 5  # runs that differ from the published ones, and values of each
# A prediction is our output beside an id; the texts of a data set are not ours to publish.
REFERENCE_KEYS = frozenset({"reference", "references", "answer", "answers", "target", "targets"})
# The files of a run that are published.
EVIDENCE = frozenset(
    {
        *(stored.CONFIG, stored.ENVIRONMENT, stored.STATUS, stored.RESULT, stored.METRICS),
        *(stored.PREDICTIONS, stored.ANSWERS, stored.PROMPT_SHARE, stored.CARD),
    }
)
UNSCRUBBED = frozenset({stored.CONFIG, stored.ANSWERS})
LOCK = ".publishing.lock"
# Results that the same code does not repeat.
OF_MACHINE = re.compile(r".*_seconds|.*_per_s|peak_memory_bytes")
UNFINISHED = re.compile(rf"\.[0-9a-f]{{12}}\..+\{archive.SUFFIX}")


def publish(runs_root: Path, destination: Path, *, timed: bool = True) -> list[ArchivedRun]:
    """Add every finished run under `runs_root` to the archives in `destination`; return the new.

    Runs that are there already stay as they are: evidence is not rewritten, and an archive without
    new runs is not touched. Others may publish to the same folder meanwhile. Runs that did not have
    their cores to themselves are not `timed`: tables and claims leave their times out.

    Raises ZiaError, before anything is written, if a run is not whole or holds something that may
    not be published, or if an archive is damaged.
    """
    finished = [run for run in stored.states(runs_root) if run.state == "done"]
    scrubber = Scrubber()
    for run in finished:
        scrubber.collect([run.environment, run.status])
    check_output(destination)
    with _locked(destination):
        there = run_paths.every_run(destination)
        added: dict[Path, list[StoredRun]] = defaultdict(list)
        for run in (run for run in finished if run.name not in there):
            check_publishable(run, runs_root)
            added[archive_path(run, destination)].append(run)
        contents = {path: _contents(path, runs, scrubber, timed) for path, runs in added.items()}
        for path, runs in added.items():
            archive.write(path, runs[0].experiment, runs[0].config["profile"], contents[path])
        return [ArchivedRun(Archive(path), run.path.name) for path in added for run in added[path]]


def archive_path(run: StoredRun, destination: Path) -> Path:
    """The archive that `run` belongs to."""
    name = archive.file_name(run.experiment, run.config["profile"])
    return inside(destination, name, run.path / stored.CONFIG)


def scrubbed(run: StoredRun, scrubber: Scrubber, *, timed: bool = True) -> dict[str, bytes]:
    """The evidence of a finished run, by file name: scrubbed and sealed."""
    files: dict[str, bytes] = {}
    marks: dict[str, dict[str, bool]] = {} if timed else {stored.ENVIRONMENT: {"timed": False}}
    for name in sorted((seal.read(run.path) or {}).keys() & EVIDENCE):
        source = inside(run.folder, name, seal.SEAL)
        if name in UNSCRUBBED:
            files[name] = source.read_bytes()
        elif name == stored.PREDICTIONS:
            files[stored.ARCHIVED_PREDICTIONS] = gzip.decompress(source.read_bytes())
        elif source.suffix == ".json":
            content = scrubber.scrub(read_json(source))
            files[name] = indented_json(content | marks.pop(name, {})).encode()
        else:
            lines = [canonical_json(scrubber.scrub(line)) for line in read_lines(source)]
            files[name] = "".join(f"{line}\n" for line in lines).encode()
    for name, mark in marks.items():  # an old run has no such file
        files[name] = indented_json(mark).encode()
    return files | {seal.SEAL: indented_json(seal.of_contents(files)).encode()}


def check_publishable(run: StoredRun, runs_root: Path) -> None:
    """Raise ZiaError unless `zia verify` has nothing against the run and its texts may go out.

    They may not if the predictions contain reference texts, or if the config holds an absolute
    path: scrubbing that would change the run's identity.
    """
    inside(runs_root, run.name, "the folder of runs")
    if is_rehearsal(str(run.config["profile"])):
        raise ZiaError(f"{run.path} is a rehearsal, not a result: move it out of {runs_root}")
    for finding in verify_run(run.path):
        if finding.outcome in ("failed", "not sealed"):
            raise ZiaError(f"{run.path} is not published ({finding.check}): {finding.detail}")
    if Scrubber().paths_out(run.config) != run.config:
        raise ZiaError(
            f"{run.path / stored.CONFIG} contains an absolute path, which would be part of the "
            "run's identity: take it out of the settings"
        )
    if not run.has_predictions:
        return
    for record in run.predictions():
        if found := REFERENCE_KEYS & record.keys():
            raise ZiaError(
                f"{run.path / stored.PREDICTIONS} contains reference texts (key {min(found)!r}); "
                "predictions are ids and our outputs only"
            )


def compare(specs: Sequence[RunSpec], runs_root: Path, published: Path) -> Iterator[str]:
    """Say how many finished runs have the numbers of their evidence in `published`.

    Of the first few that differ, say where: from which step on, in which prediction, or in which
    result. None of these depends on the clock but the results in `OF_MACHINE`, so the same code on
    the same kind of machine repeats them to the last digit.
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
    """How each finished run that has evidence differs from it; None where it does not."""
    evidence = run_paths.every_run(published)
    for spec in specs:
        name = f"{spec.experiment}/{spec.folder_name}"
        ours, theirs = runs_root / name, evidence.get(name)
        if theirs is None or stored.read_status(ours)["state"] != "done":
            continue
        try:
            for run in (ours, theirs):
                seal.check(run, seal.read(run) or {}, tensors=False)
        except ZiaError as error:
            yield f"{name}: {error}"
            continue
        difference = _difference(ours, theirs)
        yield difference and f"{name}: differs from the published run {difference}"


def _difference(path: RunPath, published: RunPath) -> str | None:
    """Where a run differs first from the published one, or None."""
    steps = _first_different(stored.metrics(path), stored.metrics(published))
    if steps is not None:
        mine, old = steps
        return f"at step {mine.get('step', old.get('step'))}: {_values(mine, old)}"
    ours, theirs = stored.load(path), stored.load(published)
    if ours.has_predictions and theirs.has_predictions:
        predictions = _first_different(ours.predictions(), theirs.predictions())
        if predictions is not None:
            mine, old = predictions
            return f"in the prediction {mine.get('id', old.get('id'))}: {_values(mine, old)}"
    mine, old = (
        {key: value for key, value in run.result.items() if not OF_MACHINE.fullmatch(key)}
        for run in (ours, theirs)
    )
    return None if _repeats(mine, old) else f"in {stored.RESULT}: {_values(mine, old)}"


def _first_different(
    ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    pairs = zip_longest(ours, theirs)
    return next(((mine or {}, old or {}) for mine, old in pairs if not _repeats(mine, old)), None)


def _values(mine: dict[str, Any], old: dict[str, Any]) -> str:
    """The values that differ, of both; what only one has where nothing else differs."""
    keys = sorted((mine | old).keys() - {"step"})
    different = [key for key in keys if mine.get(key) != old.get(key)]
    shared = [key for key in different if key in mine and key in old] or different
    return ", ".join(
        f"{key} {mine.get(key)!s:.60} (published {old.get(key)!s:.60})" for key in shared[:SHOWN]
    )


def _repeats(mine: dict[str, Any] | None, old: dict[str, Any] | None) -> bool:
    """Whether two records say the same; a key that only one of them has is not a difference."""
    if mine is None or old is None:
        return False
    both = mine.keys() & old.keys()
    told = bool(both - {"step"}) or mine.keys() == old.keys()
    return told and all(mine[key] == old[key] for key in both)


def _contents(
    path: Path, runs: Sequence[StoredRun], scrubber: Scrubber, timed: bool
) -> dict[str, dict[str, bytes]]:
    """The runs that the archive at `path` has already, and `runs`."""
    there = Archive(path).runs if path.exists() else []
    kept = {run.name: run.contents() for run in there}
    return kept | {run.path.name: scrubbed(run, scrubber, timed=timed) for run in runs}


@contextmanager
def _locked(destination: Path) -> Iterator[None]:
    """Wait until nobody else publishes to `destination`, and keep others out."""
    with write_errors(destination):
        destination.mkdir(parents=True, exist_ok=True)
        lock = (destination / LOCK).open("wb")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in destination.iterdir():
            if UNFINISHED.fullmatch(path.name):  # somebody was killed while writing it
                path.unlink(missing_ok=True)
        yield
