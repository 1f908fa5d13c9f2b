"""P-tuning v2 (Liu et al., arXiv 2110.07602): free keys and values in every layer."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from zia_core.attachment import Model, attach, zero_init_layers
from zia_core.attention import PromptKV
from zia_core.changes import changes_model
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.families import attention_layers
from zia_core.head import task_head, train_head


class PrefixDropout(nn.Dropout):
    """Dropout of a layer's prefix, a mask per sample; lives at `<attention>.zero_init.dropout`."""

    def forward(self, prompts: PromptKV, batch: int) -> PromptKV:  # type: ignore[override]
        """Keys and values [H, K, D] -> [batch, H, K, D]; as they are outside training."""
        if not self.training or self.p == 0.0:
            return prompts
        # A gated value is the gate times the value, so dropping it is dropping the value.
        key, value = (
            super(PrefixDropout, self).forward(part.expand(batch, -1, -1, -1))
            for part in (prompts.key, prompts.value)
        )
        return replace(prompts, key=key, value=value)


@changes_model
def p_tuning_v2(model: Model, prompt_length: int = 16, dropout: float = 0.1) -> Model:
    """A prefix of K keys and values in every layer, one softmax over prefix and words, no gate.

    It is this core's joint softmax on free prompts. Trained are the prefix, drawn from N(0, 1), and
    the task head. 16 prompts in RoBERTa-large are 24*2*16*1024 = 786,432 parameters.

    Words keep their positions and the backbone its own dropout; code that passes a prefix as
    `past_key_values` may shift the former by K.

    Args:
        model: a model of `zia_core.families` with a task head.
        prompt_length: K; the released SQuAD runs use 16 (v1.1) and 8 (v2.0).
        dropout: on the prefix; 0.2 in those runs.

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


@changes_model
def prefix_dropout(model: Model, dropout: float) -> Model:
    """P-tuning v2's prefix dropout, also for zero-init attention built on it (free prompts).

    Keys and values are dropped element by element in training mode, independently per sample.

    Args:
        model: adapted with `prompt_source="key_value"`.
        dropout: the share that is zeroed; the rest is scaled up by 1 / (1 - dropout).

    Raises:
        ZiaError: no zero-init attention, or hidden prompts.
    """
    layers = zero_init_layers(model)
    if not layers or layers[0].config.prompt_source != "key_value":
        raise ZiaError("Prefix dropout is for free prompts; attach with prompt_source='key_value'.")
    for layer in layers:
        layer.add_module("dropout", PrefixDropout(dropout).train(model.training))
    return model
