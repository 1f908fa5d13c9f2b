"""The paper's experiments, and what runs and reports them."""

import logging

# transformers imports torchao where it is installed, and torch 2.15 warns of two classes in that.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
