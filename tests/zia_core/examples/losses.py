import torch
from transformers import AutoModelForCausalLM

from zia_core.losses import causal_lm_loss, label_index, label_logits, label_losses

model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 0]])
mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
labels = torch.tensor([[-100, -100, 7, 8], [-100, -100, 11, -100]])  # the answers

loss, count = causal_lm_loss(model, ids, mask, labels, chunk=512)  # summed over 3 labels
(loss / count).backward()

each = label_losses(model, labels, input_ids=ids, attention_mask=mask)  # [3]
options = torch.tensor([5, 6])  # tokens to choose from
scores = label_logits(
    model, labels, options, index=label_index(labels), input_ids=ids, attention_mask=mask
)  # [3, 2]
