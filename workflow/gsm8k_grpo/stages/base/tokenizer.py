"""The tokenizer of a base model made here, and the tokens of its corpus."""

import itertools

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from gsm8k_grpo.gsm8k.prompts import TAGS
from gsm8k_grpo.stages.base.corpus import Document

Tokens = dict[str, list[int]]
TOKENIZER_DOCUMENTS = 4000
PAD, TURN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(documents: list[Document], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with single digits and chat markers, as Qwen2's; each tag is one token too."""
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
    turns = [{"role": "assistant", "content": document.completion} for document in documents]
    turns += itertools.chain.from_iterable(document.prompt for document in documents)
    tokenizer.train_from_iterator((text for turn in turns for text in (turn["role"], turn["content"])), trainer)
    tokenizer.add_tokens(list(TAGS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, chat_template=CHAT_TEMPLATE, padding_side="left"
    )


def tokenize(documents: list[Document], tokenizer: PreTrainedTokenizerFast, context: int) -> list[Tokens]:
    """Token ids of each chat with its completion, with labels on the completion alone, cut to the context.

    A document without a prompt, a drill, has labels on all of it.
    """
    chats = {_question(document): document.prompt for document in documents if document.prompt}
    asking = {"tokenize": False, "add_generation_prompt": True}
    rendered = tokenizer.apply_chat_template([*chats.values()], **asking) if chats else []
    prompts = dict(zip(chats, _ids(rendered, tokenizer), strict=True))
    before = (prompts[_question(document)] if document.prompt else [] for document in documents)
    after = _ids([document.completion + END for document in documents], tokenizer)
    return [
        {"input_ids": (b + a)[:context], "labels": ([-100] * len(b) + a)[:context]}
        for b, a in zip(before, after, strict=True)
    ]


def _question(document: Document) -> str:
    return document.prompt[-1]["content"]


def _ids(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """All texts at once, on every core, and of equal ones, as many answers are, one."""
    distinct = list(dict.fromkeys(texts))
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(distinct, add_special_tokens=False)
    ids = {text: encoding.ids for text, encoding in zip(distinct, encoded, strict=True)}
    return [ids[text] for text in texts]
