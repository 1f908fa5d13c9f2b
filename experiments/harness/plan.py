"""Plan runs: list those of a profile, and tell which are done, missing or failed."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from experiments.harness import registry, rehearsal, run_paths, stored
from experiments.harness.archive import RunPath
from experiments.harness.experiment import SHARDED_GPUS, Estimate, Experiment, Models
from experiments.harness.registry import InvalidChoiceError, check_choice
from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError

DEVICES = ("auto", "cpu", "cuda")
RETRIES = ("failed",)


@dataclass(frozen=True)
class PlannedRun:
    """A planned run and the state of its folder."""

    spec: RunSpec
    state: str  # of `stored.current_state`, or "missing", or "invalid": done without its result
    reason: str
    estimate: Estimate


def resolve_device(device: str) -> str:
    """Resolve "auto", the GPU if there is one, to "cpu" or "cuda".

    Imports torch, which takes seconds, only if the machine seems to have a GPU.
    """
    check_choice("device", device, DEVICES)
    if device == "cpu" or (device == "auto" and not _shows_gpu()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ZiaError("device cuda: torch finds no GPU here; use --device cpu")
    return "cpu"


def device_of(device: str, experiment: str | None, profile: str, *, only_look: bool = False) -> str:
    """The device to plan for.

    If "auto" finds no GPU, runs planned for one are not moved to the CPU, where they may take
    months: a ZiaError suggests "cpu". To `only_look` at a plan, no GPU is needed.
    """
    if only_look and device == "cuda":
        return "cuda"
    found = resolve_device(device)
    if device != "auto" or found == "cuda":
        return found
    if not any(map(_needs_gpu, _as_planned(experiment, profile, "cpu"))):
        return "cpu"
    if only_look:
        return "cuda"
    raise ZiaError(
        f"the runs of the profile {profile} are for a GPU, and torch finds none here; use "
        "--device cpu to do them on the CPU, however long that takes"
    )


def check_device(spec: RunSpec) -> None:
    """Raise ZiaError if a setting of the run names a GPU or a precision that is not there."""
    if not _needs_gpu(spec):
        return
    resolve_device("cuda")
    import torch

    precision = getattr(spec.settings, "precision", "fp32")
    if precision != "fp32" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name()
        raise ZiaError(
            f"precision {precision} needs bfloat16, which this GPU ({name}) "
            "lacks: use one from Ampere on (A100, RTX 30), or --set precision=fp32, which is "
            "another run and takes more memory"
        )


def _needs_gpu(spec: RunSpec) -> bool:
    return "cuda" in _devices(spec).values()


def _devices(spec: RunSpec) -> dict[str, str]:
    """The settings that choose devices: `device`, `encoder_device`, ..."""
    names = [each.name for each in fields(spec.settings) if each.name.endswith("device")]
    return {name: getattr(spec.settings, name) for name in names}


def _shows_gpu() -> bool:
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, WSL, AMD
    return any(Path(driver).exists() for driver in drivers) or bool(shutil.which("nvidia-smi"))


def planned(
    experiment: str | None, profile: str, device: str, models: Models = Models(), gpus: int = 1
) -> list[RunSpec]:
    """List all runs of a profile, of one experiment or of all that have the profile.

    "cpu" moves every run to the CPU; "cuda" leaves runs for laptops on the CPU. Runs in shards are
    left out if a job has too few `gpus`. Raises InvalidChoiceError for an unknown experiment or
    profile, and ZiaError for `models` that are not there or that the experiment cannot take.
    """
    specs = _as_planned(experiment, profile, device)
    if gpus < SHARDED_GPUS:
        specs = [spec for spec in specs if not registry.get(spec.experiment).in_shards(spec)]
    if models:
        specs = _with_models(specs, _takes_models(experiment), models)
    return _on(device, specs)


def _takes_models(experiment: str | None) -> Experiment:
    if experiment is None:
        raise InvalidChoiceError(
            "--backbone, --encoder and --template are for one experiment: name it"
        )
    return registry.get(experiment)


def _with_models(specs: Sequence[RunSpec], of: Experiment, models: Models) -> list[RunSpec]:
    """The runs with other models. In a shallow model two numbers of layers may become one run."""
    if of.with_models is None:
        raise InvalidChoiceError(
            f"{of.name} takes no --backbone, --encoder or --template: its models are set"
        )
    changed = [of.with_models(spec, models) for spec in specs]
    return list({spec.identity: spec for spec in changed}.values())


def _on(device: str, specs: Iterable[RunSpec]) -> list[RunSpec]:
    return [_on_cpu(spec) for spec in specs] if device == "cpu" else list(specs)


def _on_cpu(spec: RunSpec) -> RunSpec:
    return replace(spec, settings=replace(spec.settings, **dict.fromkeys(_devices(spec), "cpu")))


def _as_planned(experiment: str | None, profile: str, device: str) -> list[RunSpec]:
    known = registry.experiments()
    chosen = list(known.values()) if experiment is None else [registry.get(experiment)]
    profiles = sorted({profile for one in chosen for profile in one.profiles})
    base = rehearsal.rehearsed_profile(profile)
    check_choice("profile", base, profiles, of=experiment or "")
    return [
        spec
        for one in chosen
        if base in one.profiles
        for spec in _runs_of(one, profile, base, device)
    ]


def _runs_of(experiment: Experiment, profile: str, base: str, device: str) -> Iterable[RunSpec]:
    specs = experiment.plan(base, device)
    if profile == base:
        return specs
    # A rehearsal may be shorter on a CPU.
    specs = _on(device, specs)
    return rehearsal.rehearsed(specs, experiment.rehearsal) if experiment.rehearsal else []


def inspect(spec: RunSpec, runs_root: Path) -> PlannedRun:
    """Read the state of a run under `runs_root`; ZiaError if its status is unreadable."""
    folder = runs_root / spec.experiment / spec.folder_name
    return inspect_run(spec, folder if folder.exists() else None)


def inspect_all(
    specs: Sequence[RunSpec], runs_root: Path, models: Models = Models()
) -> list[PlannedRun]:
    """Look at each run under `runs_root`, in its folder or in an archive.

    With `models` that are not the plan's, a cost that was measured is unknown.
    """
    archived = {run_paths.run_name(run): run for run in run_paths.archived_runs(runs_root)}
    found = []
    for spec in specs:
        name = f"{spec.experiment}/{spec.folder_name}"
        folder = runs_root / name
        found.append(inspect_run(spec, folder if folder.exists() else archived.get(name)))
    if not models:
        return found
    unknown = Estimate(None, None, "not measured with these models")
    return [
        run if run.estimate.flops or run.estimate.hours is None else replace(run, estimate=unknown)
        for run in found
    ]


def inspect_run(spec: RunSpec, path: RunPath | None) -> PlannedRun:
    """Look at the run stored in `path`, if it is anywhere."""
    experiment = registry.get(spec.experiment)
    state, reason = "missing", ""
    if path is not None:
        state, reason = stored.current_state(path), stored.read_status(path)["reason"] or ""
        if state == "done" and not stored.is_done(path, experiment.result_fields):
            state = "invalid"
    return PlannedRun(spec, state, reason, experiment.estimate(spec))


def with_requirements(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Return each run once, after those that it requires."""
    ordered: dict[str, RunSpec] = {}
    for spec in specs:
        for needed in [*registry.get(spec.experiment).requires(spec), spec]:
            ordered.setdefault(needed.identity, needed)
    return list(ordered.values())


def unfinished_requirement(spec: RunSpec, runs_root: Path) -> str:
    """Return a sentence about a required run that is not done, or an empty string."""
    for needed in registry.get(spec.experiment).requires(spec):
        state = inspect(needed, runs_root).state
        folder = runs_root / needed.experiment / needed.folder_name
        if state != "done" and not (state == "failed" and stored.has_diverged(folder)):
            return (
                f"it needs the run {needed.experiment}/{needed.folder_name}, which is {state}: "
                "get that done first"
            )
    return ""


def choose(
    experiment: str,
    profile: str,
    device: str,
    *,
    task: str | None = None,
    method: str | None = None,
    seed: int | None = None,
    settings: Mapping[str, str],
    models: Models = Models(),
) -> RunSpec:
    """Choose the run of `zia run`: the first match in the plan, with seed and settings changed.

    Runs that others require, such as those that select a learning rate, come last. `seed` may be
    any; `settings` are the `--set key=value` pairs. Raises InvalidChoiceError for whatever is not
    valid.
    """
    owner = registry.get(experiment)
    specs = planned(experiment, profile, device, models, gpus=SHARDED_GPUS)
    if task is not None:
        check_choice("task", task, owner.tasks, of=experiment)
        specs = [spec for spec in specs if spec.task == task]
    if method is not None:
        check_choice("method", method, owner.methods, of=experiment)
        specs = [spec for spec in specs if spec.method == method]
    if not specs:
        raise InvalidChoiceError(
            f"profile {profile!r} of {experiment} plans no run of that method and task; "
            f"`zia plan {experiment} --profile {profile}` lists its runs"
        )
    required = {needed.identity for spec in specs for needed in owner.requires(spec)}
    specs = [spec for spec in specs if spec.identity not in required] or specs
    spec = next((spec for spec in specs if spec.seed == seed), specs[0])
    try:
        spec = spec.with_settings(settings)
        return spec if seed is None else replace(spec, seed=seed)
    except ZiaError as error:
        raise InvalidChoiceError(str(error)) from error
