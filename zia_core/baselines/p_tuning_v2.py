"""P-tuning v2 (Liu et al., arXiv 2110.07602): learned keys and values in every layer."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from zia_core.attachment import Model, attach, zero_init_layers
from zia_core.attention import PromptKV
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.families import attention_layers
from zia_core.head import task_head, train_head
from zia_core.rollback import all_or_nothing


class PrefixDropout(nn.Dropout):
    """Dropout of a layer's prefix, with a mask per sample; at `<attention>.zero_init.dropout`."""

    def forward(self, prompts: PromptKV, batch: int) -> PromptKV:  # type: ignore[override]
        """Keys and values [H, K, D] -> [batch, H, K, D]; unchanged outside training."""
        if not self.training or self.p == 0.0:
            return prompts
        # Dropping gated values is dropping values, since the gate is a factor.
        key, value = (
            super(PrefixDropout, self).forward(part.expand(batch, -1, -1, -1))
            for part in (prompts.key, prompts.value)
        )
        return replace(prompts, key=key, value=value)


@all_or_nothing
def p_tuning_v2(model: Model, prompt_length: int = 16, dropout: float = 0.1) -> Model:
    """K learned keys and values in every layer, in the words' softmax (arXiv 2110.07602).

    This is `attach` with the joint softmax on `key_value` prompts. Trains the prefix, drawn from
    N(0, 1), and the task head. 16 prompts in RoBERTa-large are 24*2*16*1024 = 786,432 parameters.

    Words keep their positions and the backbone keeps its dropout; passing a prefix as
    `past_key_values` may shift positions by K.

    Args:
        model: one that `attach` takes, with a task head.
        prompt_length: K; the released SQuAD runs use 16 (v1.1) and 8 (v2.0).
        dropout: of the prefix; 0.2 in those runs.

    Raises:
        ZiaError: unsupported model, or one without a task head.
    """
    task_head(model)  # refuse a model without one before changing it
    config = ZeroInitConfig(
        prompt_length=prompt_length,
        num_layers=len(attention_layers(model)),
        prompt_source="key_value",
        softmax="joint",
    )
    return train_head(prefix_dropout(attach(model, config), dropout))


@all_or_nothing
def prefix_dropout(model: Model, dropout: float) -> Model:
    """P-tuning v2's dropout of the prefix, for any adapter with `key_value` prompts.

    In training mode, elements of keys and values are dropped, independently per sample.

    Args:
        model: adapted with `prompt_source="key_value"`.
        dropout: probability of zeroing; the rest is scaled by 1 / (1 - dropout).

    Raises:
        ZiaError: no zero-init attention, or hidden prompts.
    """
    layers = zero_init_layers(model)
    if not layers or layers[0].config.prompt_source != "key_value":
        raise ZiaError("Prefix dropout needs prompt_source='key_value'; attach with that.")
    for layer in layers:
        layer.add_module("dropout", PrefixDropout(dropout).train(model.training))
    return model
