"""Small tokenizers of the kinds that the real models have, learned from the generated world."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from experiments.backbones.meta_tokenizer import sentencepiece_bpe
from experiments.mini_world.exams import problems
from experiments.mini_world.instructions import instructions
from experiments.mini_world.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1000
MAX_LENGTH = 512


def texts() -> Iterator[str]:
    """Lines of the generated world."""
    for each in instructions():
        yield from (each.instruction, each.input, each.output)
    for problem in problems().values():
        yield str(problem.record["question"])
    for letter in "ABCDE":  # one token each, as the real tokenizers have for the answers' letters
        yield from [f"The answer is {letter}."] * 100


def llama() -> "PreTrainedTokenizerFast":
    """SentencePiece's BPE: a space before every text, and bytes for unknown characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    learned.train_from_iterator(
        texts(),
        trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False),
    )
    state = json.loads(learned.to_str())["model"]
    merges = [(first, second) for first, second in state["merges"]]
    tokenizer = sentencepiece_bpe(state["vocab"], merges, "<unk>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def roberta() -> "PreTrainedTokenizerFast":
    """Byte-level BPE with RoBERTa's special tokens and pairs."""
    return train_tokenizer(texts(), MAX_LENGTH)


def bert() -> "PreTrainedTokenizerFast":
    """Lower-case WordPiece with BERT's special tokens and pairs."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import WordPieceTrainer
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        **{f"{name[1:-1].lower()}_token": name for name in special},
    )


BY_KIND: Mapping[str, Callable[[], "PreTrainedTokenizerFast"]] = {
    "llama": llama,
    "roberta": roberta,
    "bert": bert,
}
