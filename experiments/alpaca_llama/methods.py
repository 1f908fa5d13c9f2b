"""A backbone made ready for a method of the table, and its adapter file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.alpaca_llama.settings import Settings
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import nn

ZERO_INIT = ("zero-init", "random-init", "random-init-gate")


def prepare(model: "nn.Module", method: str, settings: Settings) -> "nn.Module":
    """Return the model with the method's trainable parameters; draws from torch's generator."""
    from zia_core import ZeroInitConfig, attach, baselines

    if method in ZERO_INIT:
        return attach(
            model,
            ZeroInitConfig(
                prompt_length=settings.prompt_length,
                num_layers=settings.num_layers,
                softmax=settings.softmax,
                gate_per=settings.gate_per,
                gate_activation=settings.gate_activation,
                gate_init=settings.gate_init,
            ),
        )
    if method == "adaption-prompt":
        return baselines.adaption_prompt(model, settings.prompt_length, settings.num_layers)
    if method == "lora":
        return baselines.lora(model, settings.lora_rank, settings.lora_alpha, settings.lora_dropout)
    return baselines.full(model) if method == "full" else baselines.frozen(model)


def adapter_file(model: "nn.Module", method: str, backbone: dict[str, Any]) -> bytes:
    """What the method trained, as a file: for zero-init the one that `zia_core.load_adapter` reads.

    `backbone` is the identity of the bare model. A method that trains nothing gives no bytes.
    """
    from zia_core import adapters

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        return b""
    if method in ZERO_INIT:
        return adapters.packed(trained, adapters.about_adapter(model))
    return adapters.packed(trained, {"method": method, "backbone": backbone})


def load_trained(model: "nn.Module", path: Path, backbone: dict[str, Any]) -> None:
    """Load an adapter file into a model prepared for the same method.

    Raises:
        ZiaError: the file is missing or damaged, or was trained on another backbone.
    """
    from zia_core import adapters

    about, tensors = adapters.unpacked(path)
    adapters.check_backbone(path, about, backbone)
    trained = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    if trained != {name: tensor.shape for name, tensor in tensors.items()}:
        raise ZiaError(f"{path} does not hold the parameters of this run; do the run again")
    model.load_state_dict(tensors, strict=False)
