"""Say why a model has no layer to attach to: a name, a projection or a hook is missing."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from zia_core.projections import separate
from zia_core.wrappers import bare_class

_STANDARD = separate().parts or frozenset()


def unsupported(model: nn.Module) -> str:
    """The sentence for a model without an attention layer of a known class."""
    attention = next((each for each in model.modules() if _is_attention(each)), None)
    start = f"Zero-init attention cannot be attached to {type(model).__name__}"
    if attention is None:
        return f"{start}: no attention layer was found in it."
    kind = bare_class(attention)
    parts = sorted({name.partition(".")[0] for name, _ in attention.named_parameters()})
    return (
        f"{start}: its attention {kind.__module__}.{kind.__name__} (with {', '.join(parts)}) is "
        f"not among the tested families (zia_core/README.md), and {_missing(attention, parts)}."
    )


def _missing(attention: Any, parts: list[str]) -> str:
    kind = bare_class(attention)
    if "albert" in kind.__module__:
        return "its own hook is missing: one layer is run many times, and would share its prompts"
    if not hasattr(sys.modules[kind.__module__], "eager_attention_forward"):
        return (
            "its own hook is missing, since it does not ask transformers for an attention function"
        )
    if any("kv_a" in part or "kv_b" in part for part in parts):
        return (
            "a projection is missing, and cannot be exact: its keys are partly rotary and shared "
            "by all heads (MLA)"
        )
    if _STANDARD.issuperset(parts) and {"q_proj", "k_proj", "v_proj"}.issubset(parts):
        return f"only its name is missing: zia_core.register_family({kind.__name__}) adds it"
    return "a projection is missing: zia_core.register_family takes one"


def _is_attention(module: nn.Module) -> bool:
    named = "attention" in bare_class(module).__name__.lower()
    return named and any(True for _ in module.parameters())
