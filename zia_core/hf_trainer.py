"""Checkpoints of transformers' Trainer that hold only the adapter."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from zia_core.adapters import adapter_state_dict, load_adapter, save_adapter
from zia_core.attachment import zero_init_layers
from zia_core.errors import ZiaError
from zia_core.files import write_atomic

__all__ = ["AdapterCheckpoints"]

BESIDE_PEFT = "zero-init"


class AdapterCheckpoints(TrainerCallback):
    """Make the Trainer save the adapter alone: `Trainer(..., callbacks=[AdapterCheckpoints()])`.

    Everything else works as usual: `resume_from_checkpoint`, `load_best_model_at_end` and
    `save_model`. `load_adapter` reads each checkpoint folder too. `model.save_pretrained` and
    `push_to_hub` then save the adapter and no longer the whole model, until `detach`.

    A PeftModel's checkpoints are PEFT's, with prompts and gates in the folder `zero-init` of each.

    Not for the Trainer's FSDP and DeepSpeed modes, which save weights themselves.

    Raises:
        ZiaError: when the Trainer is made, if the model is not adapted.
    """

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Replace the model's `save_pretrained`, and a PeftModel's `load_adapter`."""
        model = kwargs["model"]
        name = type(model).__name__
        if not zero_init_layers(model):
            raise ZiaError(f"{name} has no zero-init attention; call attach() before the Trainer.")
        for layer in zero_init_layers(model):
            if layer.prompt.itemsize < 4:
                layer.float()  # TRL makes all that is trained bfloat16 if the rest is quantised
        own: dict[str, Any] = model.__dict__
        # Neither closures nor bound methods: deepcopy and pickle rebind them to the copy.
        if "PeftModel" in {kind.__name__ for kind in type(model).__mro__}:
            own["save_pretrained"] = partial(_save_beside_peft, model)
            own["load_adapter"] = partial(_load_beside_peft, model)
            return
        own["save_pretrained"] = partial(_save_pretrained, model)
        # The Trainer then does not list the whole backbone as missing when it loads.
        absent = model.state_dict().keys() - adapter_state_dict(model).keys()
        own.setdefault("_zero_init_kept_keys", getattr(model, "_keys_to_ignore_on_save", None))
        own["_keys_to_ignore_on_save"] = sorted(absent)


def _save_pretrained(model: Any, save_directory: str | os.PathLike[str], **options: Any) -> None:
    """Write the adapter, a second time under the name that the Trainer loads."""
    if options.get("is_main_process", True):
        path = save_adapter(model, save_directory)
        write_atomic(Path(save_directory, "model.safetensors"), path.read_bytes())


def _save_beside_peft(model: Any, save_directory: str | os.PathLike[str], **options: Any) -> None:
    type(model).save_pretrained(model, save_directory, **options)
    if options.get("is_main_process", True):
        save_adapter(model, Path(save_directory, BESIDE_PEFT))


def _load_beside_peft(
    model: Any, model_id: str | os.PathLike[str], *args: Any, **options: Any
) -> Any:
    """PEFT's `load_adapter`, by which the Trainer resumes and loads the best checkpoint."""
    result = type(model).load_adapter(model, model_id, *args, **options)
    if (folder := Path(model_id, BESIDE_PEFT)).is_dir():
        load_adapter(model, folder)
    return result
