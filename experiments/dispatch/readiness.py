"""Tell before a GPU hour is spent whether the runs of a plan will load, fit and be written."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from experiments.dispatch import squeue
from experiments.dispatch.cluster_file import Cluster
from experiments.harness import registry, weights_check
from experiments.harness.gpus import Gpu
from experiments.harness.needs import DataSet, Source, together
from experiments.harness.provenance import PROJECT
from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError

RELEASED = PROJECT / "experiments/backbones/released"
# Beside the weights, which are read on the host: Python, torch with CUDA, a batch of data.
HOST_GB = 6.0
CPU_GB = 1.0  # Python and torch without CUDA
FREE_SHARE = 0.95  # of a GPU's memory that torch can use
# Disk: records, adapter and checkpoints of a run; each of the two checkpoints of full fine-tuning
# has all weights and two moments, and its adapter has all weights.
RUN_GB = 0.05
MINI_GB = 0.002  # of pocket models
FULL_COPIES = 2 * 3 + 1

FetchedFiles = Callable[[str | None, str | None], Mapping[str, str]]


@dataclass
class Group:
    """The runs of one experiment on one backbone, and what keeps them from running."""

    name: str
    runs: Sequence[RunSpec]
    peak_gb: float | None = None
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for all runs."""
        peak = "" if self.peak_gb is None else f", at most {self.peak_gb:.1f} GB"
        found = len(self.problems)
        state = f"{found} problem{'s' * (found > 1)}" if found else "ready"
        return f"{self.name}: {len(self.runs)} runs{peak}: {state}"


def groups(
    specs: Sequence[RunSpec],
    cluster: Cluster,
    device: str,
    gpu: Gpu,
    fetched: FetchedFiles = lambda repository, revision: {},
) -> Iterator[Group]:
    """Check all runs, group by group; nothing is fetched and no GPU is used.

    `fetched(repository, revision)` has the SHA-256 of each file that came from the hub.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # before its client is imported
    checked: dict[str, str] = {}  # sentences by what was checked, which groups may share
    for (experiment, backbone), found in groupby(
        specs, key=lambda spec: (spec.experiment, spec.backbone)
    ):
        runs = list(found)
        group = Group(f"{experiment} on {backbone}", runs)
        needs = together(map(registry.get(experiment).needs, runs))
        for source in needs.weights:
            _note(group, checked, source.name, _weights(source, fetched))
        for data in needs.data:
            _note(group, checked, data.name, _data(data))
        try:
            group.problems += dict.fromkeys(_memory(group, cluster, device, gpu))
        except ZiaError as error:  # the method does not fit the model that is here
            group.problems.append(str(error))
        yield group


def shared_problems(groups: Sequence[Group], runs_root: Path, *, ask_slurm: bool) -> Iterator[str]:
    """What concerns all runs: the disk for results, and Slurm."""
    needed = sum(map(_disk_gb, (spec for group in groups for spec in group.runs)))
    there = _existing(runs_root.absolute())
    free = shutil.disk_usage(there).free / 1e9
    if free < needed:
        yield (
            f"the results need {needed:.1f} GB, and {there} has {free:.1f} GB free: make room, or "
            "name another folder with --runs"
        )
    if not os.access(there, os.W_OK):
        yield f"results cannot be written to {there}: name another folder with --runs"
    if ask_slurm:
        try:
            squeue.jobs()
        except ZiaError as error:
            yield str(error)


def _note(group: Group, checked: dict[str, str], name: str, check: Callable[[], object]) -> None:
    if name not in checked:
        checked[name] = ""
        try:
            check()
        except ZiaError as error:
            checked[name] = str(error)
    if checked[name]:
        group.problems.append(checked[name])


def _weights(source: Source, fetched: FetchedFiles) -> Callable[[], object]:
    return lambda: weights_check.check(source, RELEASED, fetched(source.hub, source.revision))


def _data(data: DataSet) -> Callable[[], object]:
    if data.optional and data.missing():
        return lambda: None
    return data.load


def _memory(group: Group, cluster: Cluster, device: str, gpu: Gpu) -> Iterator[str]:
    """Sentences about runs that do not fit the GPU or the memory that a job asks for."""
    predict = registry.get(group.runs[0].experiment).largest_step
    for spec in group.runs:
        resources = cluster.resources(spec, device)
        asked, gpus = resources.mem_gb or 0.0, resources.gpus_per_node or 1
        if predict is None or (spec.settings.device == "cpu" and spec.profile != "paper"):
            peak = registry.get(spec.experiment).estimate(spec).memory_gb
            loaded = 0.0
        else:
            found = predict(spec)
            peak, loaded = found.on_each(gpus) / 1e9, found.on_host / 1e9
        if peak is None:
            continue
        group.peak_gb = max(group.peak_gb or 0.0, peak)
        on_gpu = spec.settings.device == "cuda"
        if on_gpu and peak > FREE_SHARE * gpu.memory_gb:
            sharded = registry.get(spec.experiment).in_shards(spec)
            where, other = (
                (f"each of {gpus} GPUs", "give jobs more GPUs")
                if sharded
                else ("the GPU", "use a larger GPU")
            )
            yield (
                f"{spec.method} needs {peak:.1f} GB on {where}, and {gpu.name} has "
                f"{gpu.memory_gb:.0f}: lower token_budget or micro_batch_size, set "
                f"checkpoint_activations, or {other}"
            )
        # A process per GPU, and each reads the weights.
        host = gpus * (loaded + HOST_GB) if on_gpu else peak + CPU_GB
        if host > asked:
            yield (
                f"{spec.method} needs {host:.0f} GB of the machine's memory, and its job asks for "
                f"{asked:.0f}: raise mem_gb in the cluster file"
            )


def _disk_gb(spec: RunSpec) -> float:
    predict = registry.get(spec.experiment).largest_step
    if spec.profile == "mini":
        return MINI_GB
    if spec.method != "full" or predict is None or spec.profile != "paper":
        return RUN_GB
    return RUN_GB + FULL_COPIES * predict(spec).weights / 1e9


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
