"""Do runs in this process, one after another.

A run stopped by a signal continues from its checkpoint next time; a failed one is only repeated on
request.
"""

import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.dispatch import rank_processes
from experiments.dispatch.code_snapshot import ChangedCodeError, CodeGuard
from experiments.dispatch.isolation import breaks_the_gpu, restored_process_state
from experiments.dispatch.out_of_memory import out_of_memory
from experiments.dispatch.stop_signals import StopSignals
from experiments.harness import plan, provenance, registry, rehearsal, run_paths, stored
from experiments.harness.folder import RunFolder, discard_checkpoints
from experiments.harness.ownership import LostOwnershipError, Watch
from experiments.harness.plan import PlannedRun
from experiments.harness.spec import RunSpec
from experiments.io import terminal
from experiments.io.output import say, tell
from zia_core.errors import ZiaError

GPU_IS_BROKEN = "after that error this process can no longer use its GPU"
EXIT_DONE, EXIT_FAILED = 0, 1
EXIT_SIGNAL = 128  # plus the signal's number, by shell convention


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a run ended."""

    # done, failed, preempted, "busy" (another process has the run), "waiting" (for another run)
    state: str
    reason: str = ""
    signal: int = 0  # that arrived meanwhile: do no further runs
    gpu_is_broken: bool = False  # this process cannot do further runs


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

    In a rehearsal the run is stopped after its first step, and resumed at once.

    `begun` is called once the run is claimed, `show` with the fields of every progress report.
    Pass `stop` if signals are already handled. A run of another process is watched for up to a
    minute to see whether that is alive; with `watch`, which watches many runs, not at all.
    Errors of the run itself are recorded and returned; ZiaError is raised only if the folder
    cannot be claimed or released.
    """
    options: dict[str, Any] = {"stop": stop, "watch": watch}
    if rehearsal.is_rehearsal(spec.profile):
        name = f"{spec.experiment}/{spec.folder_name}"
        stops = stored.checkpoint_step(runs_root / name) < 1
        outcome = _run_once(spec, runs_root, show, begun=begun, stops=stops, **options)
        if not outcome.reason.startswith(rehearsal.REASON):
            return outcome
        return _run_once(spec, runs_root, show, **options)
    return _run_once(spec, runs_root, show, begun=begun, **options)


def _run_once(
    spec: RunSpec,
    runs_root: Path,
    show: Callable[[dict[str, Any]], None] | None,
    *,
    stop: StopSignals | None,
    watch: Watch | None,
    begun: Callable[[], None] = lambda: None,
    stops: bool = False,  # after its first step
) -> Outcome:
    experiment = registry.get(spec.experiment)
    folder = RunFolder.claim(
        runs_root, spec, experiment.result_fields, wait=watch is None, watch=watch
    )
    if folder is None:
        path = runs_root / spec.experiment / spec.folder_name
        if stored.is_done(path, experiment.result_fields):
            return Outcome("done")
        return Outcome("busy", "another process works on it")
    folder.on_progress = _stopping(show, folder) if stops else show
    begun()
    handled: AbstractContextManager[None] = nullcontext()
    if stop is None:
        stop = StopSignals()
        handled = stop.handled()
    outcome = Outcome("failed")
    try:
        with folder, handled, stop.passed_to(folder), restored_process_state():
            outcome = _attempt(experiment.run, spec, folder, stop)
            try:
                if outcome.state in ("failed", "preempted"):
                    folder.set_status(outcome.state, outcome.reason)
            except LostOwnershipError as error:
                outcome = replace(outcome, state="busy", reason=str(error))
            except ZiaError as error:  # a full disk: what cannot be recorded is at least printed
                outcome = replace(outcome, reason=f"{outcome.reason}; {error}")
    except RuntimeError as error:  # on a broken GPU, cleaning up fails too
        if not breaks_the_gpu(error):
            raise
        outcome = replace(outcome, gpu_is_broken=True)
    return replace(outcome, signal=stop.received)


def _stopping(
    show: Callable[[dict[str, Any]], None] | None, folder: RunFolder
) -> Callable[[dict[str, Any]], None]:
    """Report progress, and stop the run after its first step."""

    def reported(fields: dict[str, Any]) -> None:
        if show is not None:
            show(fields)
        if fields.get("step"):
            folder.request_stop(rehearsal.REASON)

    return reported


def _attempt(
    run: Callable[[RunSpec, RunFolder], None], spec: RunSpec, folder: RunFolder, stop: StopSignals
) -> Outcome:
    """Call the experiment; return how the run ended."""
    from zia_core.training import Interrupted, NonFiniteLoss  # imports torch, like every run

    try:
        plan.check_device(spec)
        ranks = rank_processes.ranks_for(spec)
        folder.write_environment(provenance.environment(with_torch=True) | {"ranks": ranks})
        with rank_processes.other_ranks(spec, folder.path, ranks):
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
        return Outcome("failed", str(error), gpu_is_broken=breaks_the_gpu(error))
    except Exception as error:  # a bug or the machine: traceback here, one line in the folder
        if sentence := out_of_memory(spec, error):
            return Outcome("failed", sentence)
        say(traceback.format_exc().rstrip())
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        said = str(error).partition("\n")[0]
        reason = f"{type(error).__name__}: {said} ({where})"
        return Outcome("failed", reason, gpu_is_broken=breaks_the_gpu(error))
    return Outcome("done")


def run_all(specs: Sequence[RunSpec], runs_root: Path, *, retry_failed: bool = False) -> int:
    """Do all unfinished runs in order, each after those that it requires, listed or not.

    A failed run does not stop the others. Returns the exit code: 0 if all are done, 1 if not, or
    128 + the signal that stopped it. Raises ChangedCodeError if the code is edited meanwhile, and
    ZiaError, before the first run, if runs cannot be done in `runs_root`.
    """
    run_paths.check_writable(runs_root)
    if not specs:
        say("nothing is planned for this profile yet")
    specs = plan.with_requirements(specs)
    code = CodeGuard()
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
        if outcome.gpu_is_broken and number < len(specs):
            say(f"stopped, since {GPU_IS_BROKEN}: the same command does the rest")
            return EXIT_FAILED
    if not_done and len(specs) > 1:
        say("\n  ".join([f"{len(not_done)} of {len(specs)} runs are not done:", *not_done]))
    return EXIT_FAILED if not_done else EXIT_DONE


def _do(run: PlannedRun, runs_root: Path, retry_failed: bool, code: CodeGuard) -> Outcome:
    if run.state == "done":
        discard_checkpoints(runs_root / f"{run.spec.experiment}/{run.spec.folder_name}")
        return Outcome("done", "done before")
    if run.state == "failed" and not retry_failed:
        return Outcome("failed", f"{run.reason} (before; --retry failed runs it again)")
    if missing := plan.unfinished_requirement(run.spec, runs_root):
        return Outcome("waiting", missing)
    if run.state == "running":
        tell("another process has it; watching for up to a minute whether it is alive")
    code.check()
    with terminal.progress() as show:
        return run_one(run.spec, runs_root, lambda fields: show(**fields))


def report(outcome: Outcome, folder: Path) -> None:
    """Print how the run in `folder` ended."""
    if outcome.state == "done":
        result = terminal.result_line(stored.load(folder).result)
        tell(f"{outcome.reason or 'done'}: {result}")
    else:
        goes_on = "; the same command continues from there" if outcome.state == "preempted" else ""
        say(f"{outcome.state}: {outcome.reason}{goes_on}")
