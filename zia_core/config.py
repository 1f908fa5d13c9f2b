"""Configuration of zero-init attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_type_hints

from zia_core.errors import ZiaError
from zia_core.validation import conform


class Config:
    """Base of frozen dataclasses whose fields are checked against their annotations.

    Integers must be positive.
    """

    def __post_init__(self) -> None:
        for name, annotation in get_type_hints(type(self)).items():
            where, value = f"{type(self).__name__}.{name}", getattr(self, name)
            conform(annotation, value, where)
            if annotation is int and value < 1:
                raise ZiaError(f"{where} must be at least 1, not {value}")

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values, defaults included."""
        return asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Unknown names are refused: they may change the method."""
        known = get_type_hints(cls)
        if unknown := sorted(record.keys() - known):
            raise ZiaError(
                f"{cls.__name__} has no {', '.join(unknown)}; its fields are "
                f"{', '.join(sorted(known))}"
            )
        return cls(**record)


@dataclass(frozen=True)
class ZeroInitConfig(Config):
    """Configuration of `attach`. The defaults are those of the paper's training code.

    Attributes:
        prompt_length: K, learned prompts per adapted layer.
        num_layers: L, adapted layers, counted from the top.
        prompt_source: ``hidden``: a prompt is a hidden state that passes through the layer's frozen
            key and value projections (the paper, eqs 3-4). ``key_value``: a prompt is itself a key
            and a value, as in P-tuning v2, on which the paper builds for RoBERTa.
        softmax: ``separate``: one softmax for prompts and one for words (eq. 7). ``joint``: one
            softmax over both and no gate. The paper does not define its "rand-init" ablation; this
            is how the independent re-run arXiv 2502.03029 reads it.
        gate_per: one gate per ``head`` (the paper) or per ``layer`` (PEFT).
        gate_activation: ``tanh`` (arXiv v3 and the released training code) or ``identity``
            (arXiv v1, PEFT, LitGPT).
        gate_init: initial value of every gate. Zero makes step 0 the pretrained model; another
            value is the second reading of "rand-init".
        prompt_std: prompts are drawn from N(0, prompt_std^2).

    Raises:
        ZiaError: a field of another type, or a length or count below 1.
    """

    prompt_length: int = 10
    num_layers: int = 30
    prompt_source: Literal["hidden", "key_value"] = "hidden"
    softmax: Literal["separate", "joint"] = "separate"
    gate_per: Literal["head", "layer"] = "head"
    gate_activation: Literal["tanh", "identity"] = "tanh"
    gate_init: float = 0.0
    prompt_std: float = 1.0
