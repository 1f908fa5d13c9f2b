"""Training from cached trunk features is bitwise that from images, or refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tests.zia_core.backbones import build
from tests.zia_core.baselines.methods import stir
from tests.zia_core.toy_training import FolderJournal
from zia_core import ZeroInitConfig, ZiaError, attach, baselines
from zia_core.engine import TrainSettings, train
from zia_core.trunk import Trunk, trunk

# Batches of eight leave one image over.
IMAGES, CLASSES, BATCH = 25, 7, 8


def _zero_init(softmax: Any) -> Callable[[nn.Module], nn.Module]:
    config = ZeroInitConfig(prompt_length=4, num_layers=2, softmax=softmax)
    return lambda model: baselines.train_head(attach(model, config))


# With the number of the three blocks below the adapted ones.
METHODS: dict[str, tuple[Callable[[nn.Module], nn.Module], int]] = {
    "linear": (baselines.linear_probe, 3),
    "zero-init": (_zero_init("separate"), 1),
    "random-init": (_zero_init("joint"), 1),
    "adapter": (lambda m: baselines.houlsby(m, 5), 0),
    "lora": (lambda m: baselines.lora_encoder(m, 3), 0),
    "vpt-shallow": (lambda m: baselines.vpt(m, 4, deep=False), 0),
    "vpt-deep": (lambda m: baselines.vpt(m, 4, deep=True), 0),
}


class ImageTask:
    """Random images and labels, as images or as features of the model's trunk."""

    def __init__(self, model: nn.Module, reused: bool) -> None:
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(IMAGES, 3, 16, 16, generator=generator)
        self.classes = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
        self.trunk: Trunk | None = trunk(model) if reused else None
        self.inputs = self.trunk.features(model, images, BATCH) if self.trunk else images

    def __len__(self) -> int:
        return IMAGES

    def length(self, index: int) -> int:
        return 17

    def labels(self, index: int) -> int:
        return 1

    def record_id(self, index: int) -> str:
        return str(index)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return {"inputs": self.inputs[list(indices)], "classes": self.classes[list(indices)]}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        inputs = batch["inputs"]
        logits = self.trunk.logits(model, inputs) if self.trunk else model(inputs)
        losses = nn.functional.cross_entropy(logits, batch["classes"], reduction="sum")
        return losses, len(inputs)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {}


def trained(name: str, reused: bool, folder: Path) -> dict[str, Any]:
    """The records of a run of six steps, two epochs, and the final parameters."""
    torch.manual_seed(3)
    model = stir(METHODS[name][0](build("timm")))  # zero gates would hide the prompts
    settings = TrainSettings(
        total_steps=6,
        batch_size=BATCH,
        peak_lr=0.02,
        warmup_steps=1,
        weight_decay=0.1,
        micro_batch_size=BATCH,
        eval_every=0,
        checkpoint_every=0,
        seed=5,
        device="cpu",
    )
    journal = FolderJournal(folder / str(reused))
    train(model, ImageTask(model, reused), settings, journal)
    return {
        "records": (folder / str(reused) / "metrics.jsonl").read_text(),
        **{n: p for n, p in model.named_parameters() if p.requires_grad},
    }


@pytest.mark.parametrize("name", METHODS)
def test_the_same_losses_and_parameters_bitwise(name: str, tmp_path: Path) -> None:
    from_images, from_features = (trained(name, reused, tmp_path) for reused in (False, True))
    assert from_images.pop("records") == from_features.pop("records")
    assert from_images.keys() == from_features.keys()
    for parameter, value in from_images.items():
        assert torch.equal(value, from_features[parameter]), parameter


@pytest.mark.parametrize("name", METHODS)
def test_everything_below_the_lowest_adapted_block_is_reused(name: str) -> None:
    method, depth = METHODS[name]
    assert trunk(method(build("timm"))).depth == depth


def test_features_do_not_depend_on_who_shares_the_batch() -> None:
    model = baselines.linear_probe(build("timm"))
    images = torch.randn(IMAGES, 3, 16, 16)
    order = torch.randperm(IMAGES)
    found = trunk(model)
    sizes: list[int] = []
    handle = model.patch_embed.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    features = found.features(model, images, BATCH)
    handle.remove()
    assert sizes == [BATCH] * 4  # other sizes might sum in another order
    assert features.shape == (IMAGES, 17, 48)
    assert torch.equal(found.features(model, images[order], BATCH), features[order])
    # The last image was in a padded batch: here it is in a full one.
    assert torch.equal(found.features(model, images[-8:], BATCH), features[-8:])


def test_lower_blocks_are_not_computed_again() -> None:
    model = baselines.train_head(attach(build("timm"), ZeroInitConfig(num_layers=2)))
    found = trunk(model)
    features = found.features(model, torch.randn(2, 3, 16, 16), 2)

    def computed(module: nn.Module, args: Any) -> None:
        raise AssertionError("the trunk was computed again")

    for module in (model.patch_embed, model.blocks[0]):
        module.register_forward_pre_hook(computed)
    assert found.logits(model, features).shape == (2, CLASSES)


def test_the_model_is_left_as_it_was() -> None:
    model = baselines.linear_probe(build("timm"))
    trunk(model).features(model, torch.randn(2, 3, 16, 16), 2)
    assert not model.norm._forward_pre_hooks
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, CLASSES)


def dropping(**rates: float) -> nn.Module:
    shape = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 3, "num_heads": 4}
    model = timm.create_model("vit_tiny_patch16_224", **shape, num_classes=CLASSES, **rates)
    return baselines.linear_probe(model)


def with_batch_norm() -> nn.Module:
    model = build("timm")
    model.patch_embed.norm = nn.BatchNorm1d(17)
    return baselines.linear_probe(model)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: baselines.full(build("timm")), r"cls_token is trained"),
        (lambda: baselines.bitfit(build("timm")), r"patch_embed\.proj\.bias is trained"),
        (lambda: baselines.side_tuning(build("timm")), r"patch_embed is hooked"),
        (lambda: dropping(pos_drop_rate=0.1), r"pos_drop is random"),
        (lambda: dropping(proj_drop_rate=0.1), r"blocks\.0\.attn\.proj_drop is random"),
        (lambda: dropping(attn_drop_rate=0.1), r"blocks\.0\.attn\.attn_drop is random"),
        (lambda: dropping(drop_path_rate=0.1), r"blocks\.1\.drop_path1 is random"),
        (lambda: dropping(patch_drop_rate=0.5), r"patch_drop is random"),
        (with_batch_norm, r"patch_embed\.norm is random"),
        (lambda: baselines.linear_probe(build("vit")), r"trunk of a ViTForImageClassification"),
    ],
)
def test_refused_where_it_would_not_be_exact(model: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(ZiaError, match=reason):
        trunk(model())
