"""Checkpoints of transformers' Trainer that hold only the adapter."""

from __future__ import annotations

import os
from pathlib import Path
from types import MethodType
from typing import Any

from transformers import TrainerCallback

from zia_core.adapters import adapter_state_dict, save_adapter
from zia_core.attachment import zero_init_layers
from zia_core.errors import ZiaError
from zia_core.files import write_atomic

__all__ = ["AdapterCheckpoints"]


class AdapterCheckpoints(TrainerCallback):
    """Make the Trainer save the adapter alone: `Trainer(..., callbacks=[AdapterCheckpoints()])`.

    Everything else works as usual: `resume_from_checkpoint`, `load_best_model_at_end` and
    `save_model`. `load_adapter` reads each checkpoint folder too. `model.save_pretrained` and
    `push_to_hub` then save the adapter and no longer the whole model, until `detach`.

    Not for the Trainer's FSDP and DeepSpeed modes, which save weights themselves, nor for a
    PeftModel.

    Raises:
        ZiaError: when the Trainer is made, if the model is not adapted or is a PeftModel.
    """

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Replace the model's `save_pretrained`."""
        model = kwargs["model"]
        name = type(model).__name__
        if not zero_init_layers(model):
            raise ZiaError(f"{name} has no zero-init attention; call attach() before the Trainer.")
        if "PeftModel" in {kind.__name__ for kind in type(model).__mro__}:
            raise ZiaError(
                f"A {name} is saved by PEFT, which leaves out prompts and gates; save all "
                "trainable parameters at the end instead."
            )
        for layer in zero_init_layers(model):
            if layer.prompt.itemsize < 4:
                layer.float()  # TRL makes all that is trained bfloat16 if the rest is quantised
        own: dict[str, Any] = model.__dict__
        # A bound method, not a closure: deepcopy rebinds it to the copy.
        own["save_pretrained"] = MethodType(_save_pretrained, model)
        # The Trainer then does not list the whole backbone as missing when it loads.
        absent = model.state_dict().keys() - adapter_state_dict(model).keys()
        own.setdefault("_zero_init_kept_keys", getattr(model, "_keys_to_ignore_on_save", None))
        own["_keys_to_ignore_on_save"] = sorted(absent)


def _save_pretrained(model: Any, save_directory: str | os.PathLike[str], **options: Any) -> None:
    """Write the adapter, a second time under the name that the Trainer loads."""
    if options.get("is_main_process", True):
        path = save_adapter(model, save_directory)
        write_atomic(Path(save_directory, "model.safetensors"), path.read_bytes())
