from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from zia_core import ZeroInitConfig, attach, load_adapter
from zia_core.hf_trainer import AdapterCheckpoints

name = "HuggingFaceTB/SmolLM2-135M-Instruct"
tokenizer = AutoTokenizer.from_pretrained(name)
model = attach(AutoModelForCausalLM.from_pretrained(name), ZeroInitConfig(num_layers=28))
data = [tokenizer(text) for text in ("The cat sat on the mat.", "The dog sat on the log.")]
trainer = Trainer(
    model=model,
    args=TrainingArguments("runs", max_steps=4, save_steps=2, learning_rate=0.009),
    train_dataset=data,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    callbacks=[AdapterCheckpoints()],
)
trainer.train()
load_adapter(AutoModelForCausalLM.from_pretrained(name), "runs/checkpoint-4")
