import timm
from transformers import AutoModelForCausalLM, BertConfig, BertForQuestionAnswering

from zia_core import ZeroInitConfig, attach, baselines


def llama():
    return AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")


def vit():
    return timm.create_model("vit_tiny_patch16_224", num_classes=10)


def bert():
    return BertForQuestionAnswering(BertConfig(num_hidden_layers=2, hidden_size=96))


keys_and_values = ZeroInitConfig(num_layers=2, prompt_source="key_value")
for model in (
    baselines.frozen(llama()),
    baselines.full(llama()),
    baselines.lora(llama(), rank=8),
    baselines.adaption_prompt(llama(), prompt_length=10, num_layers=28),
    baselines.linear_probe(vit()),
    baselines.bitfit(vit()),
    baselines.lora_encoder(vit(), rank=8),
    baselines.houlsby(vit(), bottleneck=64),
    baselines.vpt(vit(), prompt_length=50, deep=True),
    baselines.side_tuning(vit()),
    baselines.prompt_tuning(bert(), prompt_length=20),
    baselines.p_tuning_v2(bert(), prompt_length=16),
    baselines.prefix_dropout(attach(bert(), keys_and_values), 0.1),
):
    print(type(model).__name__, baselines.tuned_parameters(model))

head = baselines.head_parameters(vit())  # what every method trains too
print(sum(parameter.numel() for parameter in head.values()))
