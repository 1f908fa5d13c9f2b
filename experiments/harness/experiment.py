"""What an experiment provides: its name, its choices, and the functions that run it.

An experiment is a package `experiments/<name>/` whose `experiment.py` defines `EXPERIMENT`. The
command line imports that module at its start, so torch is imported inside functions only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.harness.chat import ChatModel
from experiments.harness.folder import RunFolder
from experiments.harness.gpus import Gpu
from experiments.harness.needs import Needs
from experiments.harness.rehearsal import Rehearsal
from experiments.harness.report_info import ReportInfo
from experiments.harness.spec import RunSpec

SHARDED_GPUS = 4  # fewest of a job that trains a model in shards


class NeedsData(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by `rescore` if the references of a metric are absent; says which."""


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a run, and its source."""

    hours: float | None  # None: not measured yet
    memory_gb: float | None  # 1e9 bytes, on the device of the run
    source: str  # for example "measured, 1 core"
    flops: float | None = None  # that `hours` follow from, on the GPU that is asked about
    decoding_hours: float = 0.0  # of `hours`, the part that does not
    sharded_gb: float = 0.0  # beside `memory_gb`, shared out over the GPUs of a run in shards
    gpus: int = 1  # `memory_gb` on each

    def over(self, gpus: int) -> "Estimate":
        """The cost on each of several GPUs, if they train the run in shards."""
        if not self.sharded_gb or self.memory_gb is None or self.flops is None:
            return self
        memory = self.memory_gb + self.sharded_gb / gpus
        flops = self.flops / gpus
        return replace(self, memory_gb=memory, sharded_gb=0.0, flops=flops, gpus=gpus)

    def on(self, gpu: Gpu, utilisation: float) -> "Estimate":
        """The cost on another GPU, if it was predicted."""
        if self.flops is None:
            return self
        hours = gpu.hours(self.flops, utilisation) + self.decoding_hours
        source = f"{gpu.tflops:.0f} TFLOP/s ({gpu.name}), {100 * utilisation:.0f} % used"
        if self.gpus > 1:
            source += f", {self.gpus} GPUs a run"
        return replace(self, hours=hours, source=source)


@dataclass(frozen=True)
class Memory:
    """Bytes that a run takes.

    Attributes:
        weights: on its device.
        peak: on its device, at the peak of training, weights included.
        sharded: beside the peak, shared out over the GPUs of a run in shards.
        loaded: of the weights as the machine reads them, before they are quantised, say.
    """

    weights: int
    peak: int
    sharded: int = 0
    loaded: int = 0

    def on_each(self, gpus: int) -> int:
        """The peak on each GPU; a model is there as a whole before it is sharded."""
        return max(self.peak + self.sharded // gpus, self.weights)

    @property
    def on_host(self) -> int:
        """What each process of the run reads."""
        return max(self.weights, self.loaded)


@dataclass(frozen=True)
class Answer:
    """An answer of `zia generate`: the prompt, and the text of each model."""

    prompt: str
    backbone: str
    adapted: str


@dataclass(frozen=True)
class Models:
    """The models that replace those of a plan, and how they are prompted; None keeps the plan's.

    Each model is a name in the project's lists, a folder, or owner/name@revision of the hub.
    """

    backbone: str | None = None
    encoder: str | None = None  # of images, for a language model
    template: str | None = None  # of prompts, for a language model

    def __bool__(self) -> bool:
        return self != Models()


def _nothing(spec: RunSpec) -> list[RunSpec]:
    return []


def _never(spec: RunSpec) -> bool:
    return False


def _needs_nothing(spec: RunSpec) -> Needs:
    return Needs()


@dataclass(frozen=True)
class Experiment:
    """An experiment, as harness and report see it.

    `plan(profile, device)` returns the runs of a profile in the order of execution; `device` is
    "cpu" or "cuda". The first run is the default of `zia run`.
    `run(spec, folder)` does one run: it writes metrics, predictions and the result through
    `folder`, and resumes from its checkpoint.
    `requires(spec)` returns the runs whose results the run reads, through `folder.result_of`; it
    waits until they are done.
    `needs(spec)` says which weights and data sets the run reads.
    `largest_step(spec)` returns the bytes of weights and the peak of a run's largest training step,
    predicted from its shapes; None where nothing is known.
    `in_shards(spec)` says whether several GPUs train the run in shards; such runs are planned where
    a job has at least SHARDED_GPUS.
    `rescore(path)` recomputes the fields of result.json that follow from the predictions in a run
    folder; None if an experiment keeps no predictions.
    `generate(path, prompts, device)` answers prompts with and without the adapter of a finished
    run; without prompts, the experiment's own. None if there is nothing to generate.
    `generate_image(path, image, prompts, device)` does the same for an image file.
    `chat(path, adapters, device)` loads a finished run to chat with, and beside its own adapter
    others, given by name as folders or names at the hub.
    `chat_with(backbone, adapters, template, device)` does so without a run.
    `rehearsal` shortens its runs for `zia rehearse`; without it they are not rehearsed.
    `with_models(spec, models)` returns a planned run with other models, and with the settings
    that depend on them; None if an experiment's models are its own.
    `follow_ups` are methods that only answer why a claim does not hold (the `cause`s of
    `report/claims`): the first stage of a plan leaves them out.
    `later(spec)` says what else it leaves out, so that it ends in minutes.
    `report` is what tables, figures and claims need to know; without it they leave out its runs.
    """

    name: str
    version: int  # raised whenever numbers change
    title: str  # one line for `zia list`
    settings: type  # the frozen dataclass of settings, every field with a default
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    profiles: tuple[str, ...]
    result_fields: Mapping[str, type]  # required keys of result.json and their types
    plan: Callable[[str, str], list[RunSpec]]
    run: Callable[[RunSpec, RunFolder], None]
    estimate: Callable[[RunSpec], Estimate]
    rescore: Callable[[Path], dict[str, float]] | None = None
    generate: Callable[[Path, Sequence[str], str], Iterable[Answer]] | None = None
    generate_image: Callable[[Path, Path, Sequence[str], str], Iterable[Answer]] | None = None
    chat: Callable[[Path, Mapping[str, str], str], ChatModel] | None = None
    chat_with: Callable[[str, Mapping[str, str], str, str], ChatModel] | None = None
    requires: Callable[[RunSpec], list[RunSpec]] = _nothing
    needs: Callable[[RunSpec], Needs] = _needs_nothing
    rehearsal: Rehearsal | None = None
    largest_step: Callable[[RunSpec], Memory] | None = None
    in_shards: Callable[[RunSpec], bool] = _never
    with_models: Callable[[RunSpec, Models], RunSpec] | None = None
    follow_ups: tuple[str, ...] = ()
    later: Callable[[RunSpec], bool] = _never
    report: ReportInfo | None = None
