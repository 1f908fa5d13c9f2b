"""Zero-init attention (LLaMA-Adapter, arXiv 2303.16199) for transformers and timm models.

Each of the top L layers gets K learned prompts and one gate g per head, which starts at zero:

```
softmax(q K^T / sqrt(D)) V  +  tanh(g) * softmax(q K_p^T / sqrt(D)) V_p      (eqs 2-8)
```

Shapes: B samples, T tokens, C width of the model, H query heads, G key-value heads, D head width.
"""

# Names are imported on first use, so that `from zia_core import ZiaError` does not import torch.

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zia_core.adapters import adapter_state_dict, load_adapter, save_adapter
    from zia_core.attachment import attach, condition, detach, frozen_prompts, zero_init_layers
    from zia_core.config import ZeroInitConfig
    from zia_core.errors import ZiaError
    from zia_core.families import register_family
    from zia_core.head import train_head
    from zia_core.hub import ModelCard, push_adapter
    from zia_core.layer import Geometry
    from zia_core.named_adapters import adapter_names, add, disabled, remove, use
    from zia_core.visual.attachment import attach_visual, images, visual_projection
    from zia_core.visual.config import VisualConfig

_HOME = {
    "Geometry": "layer",
    "ModelCard": "hub",
    "VisualConfig": "visual.config",
    "ZeroInitConfig": "config",
    "ZiaError": "errors",
    "adapter_names": "named_adapters",
    "adapter_state_dict": "adapters",
    "add": "named_adapters",
    "attach": "attachment",
    "attach_visual": "visual.attachment",
    "condition": "attachment",
    "detach": "attachment",
    "disabled": "named_adapters",
    "frozen_prompts": "attachment",
    "images": "visual.attachment",
    "load_adapter": "adapters",
    "push_adapter": "hub",
    "register_family": "families",
    "remove": "named_adapters",
    "save_adapter": "adapters",
    "train_head": "head",
    "use": "named_adapters",
    "visual_projection": "visual.attachment",
    "zero_init_layers": "attachment",
}

__all__ = [
    "Geometry",
    "ModelCard",
    "VisualConfig",
    "ZeroInitConfig",
    "ZiaError",
    "adapter_names",
    "adapter_state_dict",
    "add",
    "attach",
    "attach_visual",
    "condition",
    "detach",
    "disabled",
    "frozen_prompts",
    "images",
    "load_adapter",
    "push_adapter",
    "register_family",
    "remove",
    "save_adapter",
    "train_head",
    "use",
    "visual_projection",
    "zero_init_layers",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'zia_core' has no attribute {name!r}")
    value = getattr(import_module(f"zia_core.{_HOME[name]}"), name)
    globals()[name] = value
    return value
