"""The tokenizer of a base model from scratch, and the corpus as token ids with labels.

The tokenizer is a byte-level BPE in the manner of Qwen2: digits are single tokens, and a chat template with Qwen's
markers turns messages into text.  Each tag of the answer format is one token, so that a small model can learn it.
"""

import itertools
from typing import cast

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from gsm8k_grpo.gsm8k.tags import TAGS
from gsm8k_grpo.records import Message
from gsm8k_grpo.stages.base.corpus import Document

Tokens = dict[str, list[int]]
"""`input_ids` and `labels` of one document, of equal length."""

TOKENIZER_DOCUMENTS = 4000
"""The number of documents that the tokenizer is trained on."""

UNLABELLED = -100
"""The label that transformers' loss ignores."""

PAD, TURN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(documents: list[Document], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer of `vocabulary` tokens on the texts of `documents`; the tags are added to that number."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, TURN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    completions = (("assistant", document.completion) for document in documents)
    prompts = ((turn["role"], turn["content"]) for document in documents for turn in document.prompt)
    texts = itertools.chain.from_iterable(itertools.chain(completions, prompts))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(list(TAGS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, chat_template=CHAT_TEMPLATE, padding_side="left"
    )


def tokenize_documents(documents: list[Document], tokenizer: PreTrainedTokenizerFast, context: int) -> list[Tokens]:
    """Token ids and labels of each document, in the same order, cut to `context` tokens.

    A chat has labels only on its completion.  A drill, which is a document without a prompt, has them on every token.
    """
    chats = {_question(document): document.prompt for document in documents if document.prompt}
    rendered = [_rendered(prompt, tokenizer) for prompt in chats.values()]
    prompt_ids = dict(zip(chats, _token_ids(rendered, tokenizer), strict=True))
    prompts = (prompt_ids[_question(document)] if document.prompt else [] for document in documents)
    completions = _token_ids([document.completion + END for document in documents], tokenizer)
    return [
        {
            "input_ids": (prompt + completion)[:context],
            "labels": ([UNLABELLED] * len(prompt) + completion)[:context],
        }
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def count_cut(sequences: list[Tokens], tokenizer: PreTrainedTokenizerFast) -> int:
    """How many documents were cut: whole ones end with the end token."""
    return sum(tokens["input_ids"][-1] != tokenizer.eos_token_id for tokens in sequences)


def _question(document: Document) -> str:
    return document.prompt[-1]["content"]


def _rendered(prompt: list[Message], tokenizer: PreTrainedTokenizerFast) -> str:
    """The prompt as text, up to where the completion begins."""
    messages = cast("list[dict[str, str]]", prompt)
    return cast("str", tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _token_ids(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """The token ids of each text.  One call encodes all texts, on all cores.  Many texts are equal and encoded once."""
    distinct = list(dict.fromkeys(texts))
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(distinct, add_special_tokens=False)
    ids = {text: encoding.ids for text, encoding in zip(distinct, encoded, strict=True)}
    return [ids[text] for text in texts]
