"""The tokenizer of the tiny base: byte-level BPE in which numbers and JSON values stand alone."""

import json
from collections.abc import Iterable
from pathlib import Path

from trainyard.data.files import replacing, write_json

PAD, USER, ASSISTANT, END, SYSTEM = SPECIAL = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<|system|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int):
    """A `tokenizers.Tokenizer` of at most `vocabulary` tokens.

    Integers, and words that are JSON values, are never merged with what surrounds them, while glue such as
    `],"area":` becomes one token. A value merged with its glue would make texts in another order need tokens the base
    has never seen; LoRA does not train embeddings and could not tell such tokens apart.
    BPE: https://arxiv.org/abs/1508.07909; on bytes, so that any text can be encoded.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r'(?<=:")[A-Za-z]+'), "isolated"),
            pre_tokenizers.Split(Regex(r"\d+| ?[^\s\d]+|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_tokenizer(tokenizer, folder: Path, context: int) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers' AutoTokenizer reads them."""
    with replacing(Path(folder) / "tokenizer.json") as temporary:
        temporary.write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": USER,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [ASSISTANT, SYSTEM],
        "chat_template": TEMPLATE,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    write_json(Path(folder) / "tokenizer_config.json", config)
