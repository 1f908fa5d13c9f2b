"""The path of every pretraining run: train from scratch, release the weights, measure them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from experiments.backbones import release, small_vit
from experiments.backbones.weights import CARD, WEIGHTS
from experiments.harness.experiment import Estimate, Experiment
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.io.files import sha256_file
from experiments.training.optimisation import Optimisation, train_settings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from zia_core.training import TrainTask

# A profile of its own: the weights are released, so no experiment's profile trains them again.
PROFILE = "pretrain"
CHECKPOINTS = 100  # of a run


@dataclass(frozen=True)
class BackboneRecipe:
    """What identifies the runs that train one backbone, and what they measure.

    Attributes:
        experiment: name of the experiment.
        version: raised when numbers can change.
        task: the run's task.
        backbone: name of the released weights.
        settings: class of the settings.
        measured: names of the results of evaluation, floats.
        counts_tokens: whether the number of training tokens is a result.
    """

    experiment: str
    version: int
    task: str
    backbone: str
    settings: type[Optimisation]
    measured: tuple[str, ...]
    counts_tokens: bool = False

    @property
    def result_fields(self) -> Mapping[str, Any]:
        """Fields of result.json and their types."""
        return {
            "parameters": int,
            "steps": int,
            **({"tokens": int} if self.counts_tokens else {}),  # repeated ones included
            "train_seconds": float,
            "train_loss_first": float
            | None,  # of step 1; `training.result` has the mean of a tenth
            "train_loss_last": float | None,
            **dict.fromkeys(self.measured, float),
            "weights_bytes": int,
            "weights_sha256": str,
        }

    def spec(
        self, seed: int = 0, settings: Optimisation | None = None, task: str | None = None
    ) -> RunSpec:
        """The run that trains the model."""
        return RunSpec(
            experiment=self.experiment,
            version=self.version,
            task=task or self.task,
            method="full",
            backbone=self.backbone,
            data="full",
            profile=PROFILE,
            seed=seed,
            settings=settings or self.settings(),
        )

    def plan(self, profile: str, device: str) -> list[RunSpec]:
        """The one run whose weights are released; on a GPU it is another run."""
        return [self.spec(settings=self.settings(device="cuda" if device == "cuda" else "cpu"))]

    def as_experiment(
        self, title: str, run: Callable[[RunSpec, RunFolder], None], cost: Estimate
    ) -> Experiment:
        """The experiment of a backbone that takes a single run."""
        return Experiment(
            name=self.experiment,
            version=self.version,
            title=title,
            settings=self.settings,
            tasks=(self.task,),
            methods=("full",),
            profiles=(PROFILE,),
            result_fields=self.result_fields,
            plan=self.plan,
            run=run,
            estimate=lambda spec: cost,
        )

    def train_and_release(
        self,
        spec: RunSpec,
        folder: RunFolder,
        *,
        model: "nn.Module",
        task: "TrainTask",
        release: "Release",
        measure: "Callable[[Any], Mapping[str, float]]",
        card: "Callable[[Mapping[str, float]], Mapping[str, Any]]",
    ) -> None:
        """Train the model or finish its training, then release, measure and describe it.

        Args:
            spec: the run.
            folder: its folder.
            model: on its device, with initial weights.
            task: of training.
            release: how the weights are stored.
            measure: maps the released model to results; called with autograd off.
            card: maps these to the facts on the released card.
        """
        import torch

        from zia_core.engine import train

        settings = train_settings(spec.settings, spec.seed, len(task), CHECKPOINTS)
        summary = train(model, task, settings, folder)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        release.write(model)
        with torch.no_grad():
            shares = measure(release.read())
        release.write_card(card(shares))
        results = {
            "parameters": parameters,
            "steps": summary.steps,
            "tokens": summary.tokens,
            "train_seconds": summary.seconds,
            "train_loss_first": summary.first_loss,
            "train_loss_last": summary.last_loss,
            **summary.last_evaluation,
            **shares,
            "weights_bytes": release.weights.stat().st_size,
            "weights_sha256": sha256_file(release.weights),
        }
        folder.write_result({name: results[name] for name in self.result_fields})


def initialised(spec: RunSpec, build: Callable[[], Any]) -> Any:
    """Build a model with random weights that depend on the run's seed alone, on its device."""
    import torch

    from zia_core.rng import derived_seed

    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    return build().to(spec.settings.device)


def use_threads(settings: Optimisation) -> None:
    """Set torch's number of threads, on which sums on a CPU depend."""
    import torch

    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)


def described(spec: RunSpec) -> dict[str, Any]:
    """Seed, version and settings, for the card."""
    return {"seed": spec.seed, "version": spec.version, **asdict(spec.settings)}


class Release(Protocol):
    """Released weights in a run's folder."""

    @property
    def weights(self) -> Path:
        """The file of weights."""

    def write(self, model: Any) -> None:
        """Write the model."""

    def read(self) -> Any:
        """The model as released, in float32."""

    def write_card(self, facts: Mapping[str, Any]) -> None:
        """Write the card beside the weights."""


class LanguageRelease:
    """A folder `backbone` in the hub's format, with the tokenizer."""

    def __init__(
        self, folder: RunFolder, tokenizer: "PreTrainedTokenizerBase", auto_class: Any
    ) -> None:
        self.folder = folder.path / release.FOLDER
        self.weights = self.folder / WEIGHTS
        self._tokenizer, self._auto_class = tokenizer, auto_class

    def write(self, model: Any) -> None:
        """Write the model, which is in bfloat16 afterwards."""
        release.write_backbone(model, self._tokenizer, self.folder)

    def read(self) -> Any:
        """The model as released, in float32."""
        return release.read_backbone(self._auto_class, self.folder)

    def write_card(self, facts: Mapping[str, Any]) -> None:
        """Write `card.json`."""
        release.write_card(self.folder, facts)


class VisionRelease:
    """`model.safetensors` and `card.json` of a ViT."""

    def __init__(self, folder: RunFolder, shape: small_vit.ViTShape, device: str) -> None:
        self.weights = folder.path / WEIGHTS
        self._folder, self._shape, self._device = folder, shape, device

    def write(self, model: Any) -> None:
        """Write the model in bfloat16."""
        with self._folder.writing(WEIGHTS) as path:
            small_vit.write_weights(model, path)

    def read(self) -> Any:
        """The model as released, in float32."""
        return small_vit.read_weights(self._shape, self.weights).to(self._device)

    def write_card(self, facts: Mapping[str, Any]) -> None:
        """Write `card.json`."""
        with self._folder.writing(CARD) as path:
            path.write_text(small_vit.card(self._shape, self.weights, facts), encoding="utf-8")
