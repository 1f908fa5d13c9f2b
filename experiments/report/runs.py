"""Read stored runs as records, in an order that depends on their contents alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from experiments.harness import archive, run_paths, schema, seal, stored
from experiments.harness.archive import Archive, RunPath
from experiments.harness.stored import RESULT, StoredRun
from experiments.io.files import canonical_json
from experiments.io.output import say
from experiments.report.planned_seeds import Plans
from experiments.report.run import Run
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

PROFILE_ORDER = ("mini", "small", "paper")


@dataclass
class Runs:
    """The readable runs under some roots by `<experiment>/<run>`, and the damaged ones."""

    roots: Sequence[Path] = ()
    keep_going: bool = False
    found: dict[str, StoredRun] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)  # name: a sentence
    plans: Plans = field(default_factory=Plans)  # made once for all that is made of these runs

    def of(self, experiment: str) -> list[StoredRun]:
        """Return the readable runs of one experiment."""
        return [run for run in self.found.values() if run.experiment == experiment]

    def one(self, run: Run) -> StoredRun:
        """Return the folder of a run with all of its files."""
        return self.found[f"{run.experiment}/{run.folder}"]

    def damaged_of(self, experiment: str) -> tuple[str, ...]:
        """Return the sentences about that experiment's damaged runs."""
        return tuple(
            sentence
            for name, sentence in sorted(self.damaged.items())
            if name.split("/")[0] == experiment
        )

    def give_up(self, name: str, error: ZiaError) -> None:
        """Leave the run `name` out, marked; raise `error` unless asked to keep going."""
        if not self.keep_going:
            raise error
        sentence = str(error)
        for root in self.roots:  # so that the same runs elsewhere give the same bytes
            sentence = sentence.replace(f"{root}/", "")
        self.found.pop(name, None)
        self.damaged[name] = sentence


def read_runs(roots: Sequence[Path], *, keep_going: bool = False) -> Runs:
    """Read every run under `roots`: folders of run folders, of archives, or single archives.

    A run that is under several roots is taken from the first. ZiaError names a file that is
    damaged, or has changed since the run was done; with `keep_going` its run is left out and
    marked. Runs that are older than seals are taken, with a remark.
    """
    runs = Runs(roots, keep_going)
    for root in roots:
        unsealed = 0
        for name, path in _paths(root, runs).items():
            if name in runs.found or name in runs.damaged:
                continue
            try:
                run = stored.load_sealed(path)
            except ZiaError as error:
                runs.give_up(name, error)
                continue
            runs.found[name] = run
            unsealed += run.state == "done" and not run.is_sealed
        if unsealed:
            _remark(f"finished runs in {root} that are not sealed: {unsealed}; {seal.HOW}")
    return runs


def _paths(root: Path, runs: Runs) -> dict[str, RunPath]:
    """The runs under `root`, by name; an archive without a readable index is given up."""
    found: list[RunPath] = list(run_paths.folders(root))
    for path in run_paths.archives_of(root):
        try:
            found += Archive(path).runs
        except ZiaError as error:
            runs.give_up(f"{archive.experiment_of(path)}/{path.name}", error)
    return run_paths.by_name(found)


@cache  # once, though a command may read its runs for several documents
def _remark(sentence: str) -> None:
    say(sentence)


def select(
    runs: Runs,
    experiment: str,
    fields: Collection[str],
    if_there: Collection[str] = (),
    *,
    trials: bool = False,
) -> list[Run]:
    """Return the runs of an experiment, sorted by profile, method and seed.

    A run without one of `fields` is damaged: ZiaError names its file, or it is left out and marked
    if `runs.keep_going`.

    Args:
        runs: to choose from.
        experiment: its name.
        fields: of result.json, each a number or none.
        if_there: further fields, which results of older runs lack.
        trials: include runs that only tried a candidate setting.
    """
    found = []
    for stored_run in runs.of(experiment):
        try:
            run = _run(stored_run, fields, if_there)
        except ZiaError as error:
            runs.give_up(stored_run.name, error)
            continue
        # Experiments that try no candidates, and runs from before they did, have no phase.
        tried = run.settings.get("phase", "final") != "final"
        if trials or not tried:
            found.append(run)
    return sorted(found, key=_order)


def _run(run: StoredRun, fields: Collection[str], if_there: Collection[str]) -> Run:
    identity = conform_fields(schema.CONFIG, run.config, str(run.path / "config.json"))
    if identity["experiment"] != run.experiment:
        raise ZiaError(
            f"{run.path / 'config.json'}: experiment {identity['experiment']!r:.60} is not that of "
            f"its folder, {run.experiment}: restore it"
        )
    result = {}
    if run.state == "done":
        read = [*fields, *(name for name in if_there if name in run.result and name not in fields)]
        kinds = dict.fromkeys(read, float | None)
        result = conform_fields(kinds, run.result, str(run.path / RESULT))
    return Run(
        **identity,
        state=run.state,
        reason=str(run.status.get("reason")),
        hardware=_hardware(run),
        folder=run.path.name,
        result=result,
        inputs={
            key: canonical_json(_read_once(run.environment[key]))
            for key in ("data", "weights")
            if run.environment.get(key)
        },
        timed=run.environment.get("timed", True),
    )


def _read_once(hashes: Mapping[str, str]) -> dict[str, str]:
    """Hashes by name, without those of scored data that have another name too, as in older runs."""
    named = {digest for name, digest in hashes.items() if not name.endswith("-scored")}
    return {
        name: digest
        for name, digest in hashes.items()
        if not (name.endswith("-scored") and digest in named)
    }


def _order(run: Run) -> tuple[Any, ...]:
    """Known profiles first; then by name and number."""
    known = run.profile in PROFILE_ORDER
    profile = PROFILE_ORDER.index(run.profile) if known else len(PROFILE_ORDER)
    key = (run.backbone, run.data, run.version, run.task, run.method, run.seed, run.folder)
    return (profile, run.profile, *key)


def _hardware(run: StoredRun) -> str:
    """The machine, as in "2 x NVIDIA A100" or "2 threads of AMD EPYC"."""
    torch = run.environment.get("torch") or {}
    gpus = torch.get("gpus") or []
    if gpus and run.config["settings"].get("device") != "cpu":
        return f"{len(gpus)} x {gpus[0]}"
    cpu = (run.environment.get("cpu") or {}).get("model") or "unknown CPU"
    # The setting, not what torch reported: that differs between executors.
    threads = run.config["settings"].get("threads", torch.get("threads"))
    if threads is None:
        return cpu
    return f"{threads} thread{'' if threads == 1 else 's'} of {cpu}"
