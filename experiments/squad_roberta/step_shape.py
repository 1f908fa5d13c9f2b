"""The largest micro-batch of a run, on torch's meta device."""

from experiments.backbones import language_models, shapes
from experiments.harness.spec import RunSpec
from experiments.squad_roberta import methods
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.task import span_loss
from experiments.training.optimisation import weights_dtype
from experiments.training.step_cost import MicroBatch
from experiments.training.step_cost import micro_batch as _micro_batch


def micro_batch(spec: RunSpec, device: str = "meta") -> MicroBatch:
    """Full windows, as many as the budget or a step has; `device` to measure the same."""
    import torch

    settings: Settings = spec.settings
    backbone = shapes.question_answering(
        language_models.get(spec.backbone), weights_dtype(settings), settings.hidden_dropout, device
    )
    with torch.device(device):
        model = methods.prepare(backbone, spec.method, settings)
    tokens, budget = settings.max_length, settings.token_budget or settings.max_length
    rows = settings.micro_batch_size or max(1, min(settings.batch_size, budget // tokens))
    ids = torch.full((rows, tokens), 5)
    mask = torch.ones_like(ids)
    mask[-1, -1] = 0  # padding, in the last window
    positions = torch.zeros(rows, dtype=torch.int64)
    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "start_positions": positions,
        "end_positions": positions,
    }
    prompts = settings.prompt_length if spec.method == "prompt-tuning" else 0
    return _micro_batch(model, settings, batch, span_loss, rows * tokens, prompts)
