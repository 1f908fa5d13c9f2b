from transformers import AutoModelForCausalLM, AutoTokenizer

from zia_core import ZeroInitConfig, attach
from zia_core.engine import (
    Interrupted,
    Journal,
    NonFiniteLoss,
    TrainSettings,
    TrainSummary,
    TrainTask,
    train,
)
from zia_core.losses import causal_lm_loss

name = "HuggingFaceTB/SmolLM2-135M-Instruct"
tokenizer = AutoTokenizer.from_pretrained(name)


class Texts(TrainTask):
    """Every token but the first is a label."""

    def __init__(self, texts):
        self.ids = [tokenizer(text)["input_ids"] for text in texts]

    def __len__(self):
        return len(self.ids)

    def length(self, index):
        return len(self.ids[index])

    def labels(self, index):
        return len(self.ids[index]) - 1

    def record_id(self, index):
        return str(index)

    def batch(self, indices):
        padded = tokenizer.pad({"input_ids": [self.ids[i] for i in indices]}, return_tensors="pt")
        ids, mask = padded["input_ids"], padded["attention_mask"]
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.where(mask == 1, -100)}

    def loss(self, model, batch):
        return causal_lm_loss(model, **batch)

    def evaluate(self, model):
        loss, labels = self.loss(model, self.batch(range(len(self))))
        return {"loss": (loss / labels).item()}


class Printed(Journal):
    """Prints records and keeps no checkpoints: a training that is stopped starts again."""

    def metrics(self, record):
        print(record)


settings = TrainSettings(
    total_steps=20,
    batch_size=4,
    micro_batch_size=2,
    peak_lr=0.009,
    warmup_steps=2,
    weight_decay=0.02,
    eval_every=10,
    checkpoint_every=0,
    seed=0,
    device="cpu",
)
model = attach(AutoModelForCausalLM.from_pretrained(name), ZeroInitConfig(num_layers=28))
task = Texts(["The cat sat on the mat.", "The dog sat on the log.", "Cats and dogs.", "Mats."])
try:
    summary: TrainSummary = train(model, task, settings, Printed())
    print(summary.last_evaluation["loss"], summary.tokens / summary.seconds)
except NonFiniteLoss as error:
    print(error)  # names the step and its examples
except Interrupted as stopped:
    print(stopped.reason, stopped.step)
