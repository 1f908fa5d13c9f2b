"""Does runs in this process: one after another, whatever happens to one of them.

A run that is stopped by a signal goes on from its checkpoint when it is asked for again; one that
failed is not tried again unless that is asked for.
"""

import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.dispatch import rank_processes
from experiments.dispatch.code_snapshot import ChangedCodeError, Unchanged
from experiments.dispatch.isolation import nothing_left_behind, spoils_the_process
from experiments.dispatch.stop_signals import StopSignals
from experiments.harness import plan, provenance, registry, stored
from experiments.harness.folder import RunFolder
from experiments.harness.ownership import LostOwnershipError, Watch
from experiments.harness.plan import PlannedRun
from experiments.harness.spec import RunSpec
from experiments.io import terminal
from experiments.io.output import say, tell
from zia_core.errors import ZiaError

SPOILT = "after that error nothing works any more on this process's GPU"
EXIT_DONE, EXIT_FAILED = 0, 1
EXIT_SIGNAL = 128  # plus the signal's number: what a shell expects of a stopped process


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a run ended."""

    # done, failed, preempted; "busy": another process works on the run; "waiting": for another run
    state: str
    reason: str = ""
    signal: int = 0  # the signal that arrived meanwhile; whoever works off a plan stops there
    is_spoilt: bool = False  # this process cannot do another run


def run_one(
    spec: RunSpec,
    runs_root: Path,
    show: Callable[[dict[str, Any]], None] | None = None,
    *,
    stop: StopSignals | None = None,
    watch: Watch | None = None,
    begun: Callable[[], None] = lambda: None,
) -> Outcome:
    """Claim the run's folder, do or continue the run, and record how it ended.

    `begun` is called when the run is claimed; `show` gets the fields of every progress report.
    `stop` is given by whoever handles the signals already. A run that another process has is
    watched for up to a minute, whether that works; with `watch`, which looks at many, not at all.
    Errors of the run itself are recorded and returned; ZiaError is raised only where the folder
    cannot be claimed or released.
    """
    experiment = registry.get(spec.experiment)
    folder = RunFolder.claim(
        runs_root, spec, experiment.result_fields, wait=watch is None, watch=watch
    )
    if folder is None:
        path = runs_root / spec.experiment / spec.folder_name
        if stored.is_done(path, experiment.result_fields):
            return Outcome("done")
        return Outcome("busy", "another process works on it")
    folder.on_progress = show
    begun()
    handled: AbstractContextManager[None] = nullcontext()
    if stop is None:
        stop = StopSignals()
        handled = stop.handled()
    outcome = Outcome("failed")
    try:
        with folder, handled, stop.passed_to(folder), nothing_left_behind():
            outcome = _attempt(experiment.run, spec, folder, stop)
            try:
                if outcome.state in ("failed", "preempted"):
                    folder.set_status(outcome.state, outcome.reason)
            except LostOwnershipError as error:
                outcome = replace(outcome, state="busy", reason=str(error))
            except ZiaError as error:  # a full disk: what cannot be written down is at least said
                outcome = replace(outcome, reason=f"{outcome.reason}; {error}")
    except RuntimeError as error:  # where nothing works on the GPU, tidying up does not either
        if not spoils_the_process(error):
            raise
        outcome = replace(outcome, is_spoilt=True)
    return replace(outcome, signal=stop.received)


def _attempt(
    run: Callable[[RunSpec, RunFolder], None], spec: RunSpec, folder: RunFolder, stop: StopSignals
) -> Outcome:
    """Call the experiment; return the state in which that left the run, and why."""
    from zia_core.training import Interrupted, NonFiniteLoss  # imports torch, as every run does

    try:
        plan.check_device(spec)
        ranks = rank_processes.ranks_for(spec)
        folder.write_environment(provenance.environment(with_torch=True) | {"ranks": ranks})
        with rank_processes.beside(spec, folder.path, ranks):
            run(spec, folder)
        folder.set_status("done")
    except Interrupted as interrupted:
        return Outcome("preempted", str(interrupted))
    except KeyboardInterrupt:
        return Outcome("preempted", f"{stop.reason} twice (stopped at once)")
    except LostOwnershipError as error:
        return Outcome("busy", str(error))
    except NonFiniteLoss as error:
        return Outcome("failed", f"{stored.DIVERGED}{error}")
    except ZiaError as error:
        return Outcome("failed", str(error), is_spoilt=spoils_the_process(error))
    except Exception as error:  # a bug or the machine's fault: all of it here, a line in the folder
        say(traceback.format_exc().rstrip())
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        said = str(error).partition("\n")[0]
        reason = f"{type(error).__name__}: {said} ({where})"
        return Outcome("failed", reason, is_spoilt=spoils_the_process(error))
    return Outcome("done")


def in_process(specs: Sequence[RunSpec], runs_root: Path, *, retry_failed: bool = False) -> int:
    """Do every run that is not done, in order; a failed one does not stop the others.

    Runs that one of them requires are done before it, whether they were asked for or not.

    Returns the exit code: 0 when all are done, 1 if not, or 128 + the signal that ended it all.
    ChangedCodeError where the code is edited meanwhile: no further run is begun.
    """
    if not specs:
        say("nothing is planned for this profile yet")
    specs = plan.with_requirements(specs)
    code = Unchanged()
    not_done: list[str] = []
    for number, spec in enumerate(specs, start=1):
        name = f"{spec.experiment}/{spec.folder_name}"
        tell(f"[{number}/{len(specs)}] {name}")
        try:
            outcome = _do(plan.inspect(spec, runs_root), runs_root, retry_failed, code)
        except ChangedCodeError:
            raise
        except ZiaError as error:
            outcome = Outcome("failed", str(error))
        report(outcome, runs_root / name)
        if outcome.state != "done":
            not_done.append(name)
        if outcome.signal:
            return EXIT_SIGNAL + outcome.signal
        if outcome.is_spoilt and number < len(specs):
            say(f"stopped, since {SPOILT}: the same command does the rest")
            return EXIT_FAILED
    if not_done and len(specs) > 1:
        say("\n  ".join([f"not done are {len(not_done)} of {len(specs)} runs:", *not_done]))
    return EXIT_FAILED if not_done else EXIT_DONE


def _do(run: PlannedRun, runs_root: Path, retry_failed: bool, code: Unchanged) -> Outcome:
    if run.state == "done":
        return Outcome("done", "done before")
    if run.state == "failed" and not retry_failed:
        return Outcome("failed", f"{run.reason} (before; --retry failed runs it again)")
    if missing := plan.unfinished_requirement(run.spec, runs_root):
        return Outcome("waiting", missing)
    if run.state == "running":
        tell("another process has it; watching for up to a minute whether it works")
    code.check()
    with terminal.progress() as show:
        return run_one(run.spec, runs_root, lambda fields: show(**fields))


def report(outcome: Outcome, folder: Path) -> None:
    """Print how an attempt at the run in `folder` ended."""
    if outcome.state == "done":
        result = terminal.result_line(stored.load(folder).result)
        tell(f"{outcome.reason or 'done'}: {result}")
    else:
        goes_on = "; the same command goes on from there" if outcome.state == "preempted" else ""
        say(f"{outcome.state}: {outcome.reason}{goes_on}")
