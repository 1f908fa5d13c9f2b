"""Pretrain the pocket ViT on pictures of the generated world."""

from experiments.backbones import small_vit
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.images import protocols
from experiments.pretrain.pocket_vit.task import Pretraining, Settings, measure, pictures
from experiments.pretrain.recipe import (
    BackboneRecipe,
    VisionRelease,
    described,
    initialised,
    use_threads,
)

TEST_PICTURES = 2000
RECIPE = BackboneRecipe(
    "pretrain_pocket_vit",
    1,
    "pictures",
    "pocket-vit",
    Settings,
    measured=("things", "colour", "shape", "ground", "number"),  # see `task.measure`
)


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Train, release and measure the model, or finish an interrupted run."""
    settings: Settings = spec.settings
    use_threads(settings)
    RECIPE.train_and_release(
        spec,
        folder,
        task=Pretraining(settings, spec.seed),
        model=initialised(spec, lambda: small_vit.build(settings.shape)),
        release=VisionRelease(folder, settings.shape, settings.device),
        measure=lambda model: measure(
            model, pictures("test pictures", spec.seed, TEST_PICTURES), settings
        ),
        card=lambda shares: {
            "what": "a pocket ViT trained from scratch on pictures of a generated world; it has "
            "seen nothing else",
            "input": protocols.get(settings.protocol, settings.shape.image_size).describe(),
            "recipe": described(spec),
            "quality": shares,
        },
    )
