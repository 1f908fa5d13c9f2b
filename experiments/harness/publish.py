"""Turns finished runs into evidence that can be committed: small, scrubbed, sealed.

`zia publish RUNS_DIR DEST` copies every finished run to DEST, if `zia verify` finds nothing wrong
with any of them. Only the files in `EVIDENCE` are taken, and over no link: no weights, checkpoints
or owner files, and nothing that others have put there. Hosts become host-1, host-2, ... and
absolute paths become relative to `$ZIA_DATA`, to the home folder (`~`), or lose their folders (see
`scrub`). Each copy has a seal of its own bytes.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.harness import seal, stored
from experiments.harness.scrub import Scrubber
from experiments.harness.spec import RunSpec
from experiments.harness.stored import StoredRun
from experiments.harness.verify import verify_run
from experiments.io.files import (
    canonical_json,
    check_output,
    read_json,
    read_lines,
    write_atomic,
    write_json_atomic,
)
from experiments.io.safe_names import inside
from zia_core.errors import ZiaError

SHOWN = 5  # runs that differ from the published ones
# A prediction is our output beside an id; the data set's own texts stay with the data set.
REFERENCE_KEYS = frozenset({"reference", "references", "answer", "answers", "target", "targets"})
# What a run's evidence may consist of; whatever else lies in its folder stays there.
EVIDENCE = (
    stored.CONFIG,
    stored.ENVIRONMENT,
    stored.STATUS,
    stored.RESULT,
    stored.METRICS,
    stored.TIMING,
    stored.PREDICTIONS,
    stored.ANSWERS,
    stored.PROMPT_SHARE,
    stored.CARD,
)
AS_THEY_ARE = (stored.CONFIG, stored.PREDICTIONS, stored.ANSWERS)


def publish(runs_root: Path, destination: Path) -> list[Path]:
    """Copy every finished run under `runs_root` to `destination`; return the new folders.

    A run that is there already is left as it is: evidence is not rewritten.
    Raises ZiaError, before anything is copied, if a run is not whole or holds something that may
    not be published.
    """
    finished = [run for run in stored.states(runs_root) if run.state == "done"]
    scrubber = Scrubber()
    for run in finished:
        scrubber.collect([run.environment, run.status])
    copies = [(run, destination / run.path.relative_to(runs_root)) for run in finished]
    new = [(run, copy) for run, copy in copies if not copy.exists()]
    check_output(destination)
    for run, _ in new:
        check_publishable(run, runs_root)
    return [scrub(run, copy, scrubber) for run, copy in new]


def scrub(run: StoredRun, destination: Path, scrubber: Scrubber) -> Path:
    """Copy the evidence of one finished run to the folder `destination`, scrubbed, and seal it."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".publishing-", dir=destination.parent) as temporary:
        copy = Path(temporary, "run")
        copy.mkdir()
        for name in sorted((seal.read(run.path) or {}).keys() & set(EVIDENCE)):
            source, target = inside(run.path, name, seal.SEAL), copy / name
            if name in AS_THEY_ARE:
                write_atomic(target, source.read_bytes())
            elif source.suffix == ".json":
                write_json_atomic(target, scrubber.scrub(read_json(source)))
            else:
                lines = [canonical_json(scrubber.scrub(line)) for line in read_lines(source)]
                write_atomic(target, "".join(f"{line}\n" for line in lines))
        seal.write(copy)
        copy.rename(destination)
    return destination


def check_publishable(run: StoredRun, runs_root: Path) -> None:
    """Raise ZiaError unless `zia verify` has nothing against the run and its texts may go out.

    They may not if the predictions contain reference texts, or if the config holds an absolute
    path: scrubbing that would change the run's identity.
    """
    inside(runs_root, run.path.relative_to(runs_root).as_posix(), "the folder of runs")
    for finding in verify_run(run.path):
        if finding.outcome in ("failed", "not sealed"):
            raise ZiaError(f"{run.path} is not published ({finding.check}): {finding.detail}")
    if Scrubber().paths_out(run.config) != run.config:
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
        try:
            for folder in (ours, theirs):
                seal.check(folder, seal.read(folder) or {}, tensors=False)
        except ZiaError as error:
            yield f"{name}: {error}"
            continue
        pairs = zip_longest(stored.metrics(ours), stored.metrics(theirs))
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
