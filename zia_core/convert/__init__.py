"""Adapters of other projects, read into a model or written from one.

`python -m zia_core.convert SOURCE OUT --from peft --model BASE` does the same with files.
"""

from zia_core.convert.litgpt import from_litgpt
from zia_core.convert.llama_adapter import from_llama_adapter
from zia_core.convert.peft import from_peft, to_peft

__all__ = ["from_litgpt", "from_llama_adapter", "from_peft", "to_peft"]
