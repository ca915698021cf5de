"""Stage `base`: the model that GRPO starts from.

For `model: scratch` a Qwen2 model and a byte-level BPE tokenizer are made and pretrained here, on the corpus
of `corpus.py`; else `results/base/base.json` names the recipe's model.

A scratch base stands in `results/base/model/` as safetensors with its tokenizer and chat template;
`metrics.json` tells parameters, steps, loss and seconds.

Where there is a CUDA card it is used, as nothing else would have use for it: the weights are in 32 bit there too, what
is computed with them is in bfloat16.  A CPU computes in 32 bit, and the same seed gives the same bytes.
"""

import gc
import itertools
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2Config,
    Trainer,
    TrainingArguments,
    set_seed,
)

from gsm8k_grpo.corpus import Document, corpus
from gsm8k_grpo.files import read_jsonl, sha256, write_json
from gsm8k_grpo.models import CPU_ATTENTION
from gsm8k_grpo.optimizers import MuonAndAdamW
from gsm8k_grpo.params import Params
from gsm8k_grpo.progress import Progress
from gsm8k_grpo.prompts import TAGS
from gsm8k_grpo.sections import Architecture, Base

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


def new_model(shape: Architecture, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            initializer_range=shape.hidden**-0.5,  # 0.02, made for wide models, learns several times slower here
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        ),
        attn_implementation="sdpa" if torch.cuda.is_available() else CPU_ATTENTION,
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


def batches_of_like_length(sequences: list[Tokens], batch_size: int, rng: random.Random) -> list[Tokens]:
    """The sequences in an order that makes consecutive batches little padded, and the batches themselves shuffled.

    transformers' own `group_by_length` runs from long to short again and again, which a small model unlearns from.
    """
    window, ordered = 20 * batch_size, []
    for start in range(0, len(sequences), window):
        by_length = sorted(sequences[start : start + window], key=lambda tokens: len(tokens["input_ids"]))
        batches = [by_length[first : first + batch_size] for first in range(0, len(by_length), batch_size)]
        rng.shuffle(batches)
        ordered += itertools.chain.from_iterable(batches)
    return ordered


def padded_right(sequences: list[Tokens], padding: int) -> dict[str, torch.Tensor]:
    """A batch for a card, of shape (sequences, longest), padded on the right and without a mask.

    Causal attention does without one: no token looks at the padding behind it.  It is then the faster kernel's, and
    the host, which gets steps ready ahead of the card, loses no time on padding lists.
    """
    longest = max(len(tokens["input_ids"]) for tokens in sequences)
    return {
        key: torch.tensor([tokens[key] + [fill] * (longest - len(tokens[key])) for tokens in sequences])
        for key, fill in (("input_ids", padding), ("labels", -100))
    }


def base(extracted: Path, target: Path, params: Params) -> None:
    """Run the stage: write `base.json`, which names the model, and with `model: scratch` the model itself.

    base.json also has the digest of each file of a model in a folder: what trains on it knows it by them.
    """
    if params.model == "scratch":
        _pretrain(read_jsonl(extracted / "train.jsonl"), target, params)
    model = target / "model" if params.model == "scratch" else Path(params.model)
    digests = {path.name: sha256(path) for path in sorted(model.glob("*")) if path.is_file()}
    write_json(target / "base.json", {"model": str(model), "sha256": digests})


def _pretrain(rows: list[dict[str, Any]], target: Path, params: Params) -> None:
    settings = params.base
    torch.set_num_threads(params.threads)
    set_seed(params.seed)
    documents = corpus(rows, settings, params.seed)
    tokenizer = train_tokenizer(documents[:TOKENIZER_DOCUMENTS], settings.architecture.vocabulary)
    model = new_model(settings.architecture, tokenizer)
    # Hundreds of thousands of lists, none of them garbage: Python's collector would go through them all, over and over.
    gc.disable()
    sequences = tokenize(documents, tokenizer, settings.architecture.context)
    gc.freeze()
    gc.enable()
    trainer = Trainer(
        model=model,
        args=_arguments(settings, params.seed),
        train_dataset=batches_of_like_length(sequences, settings.batch_size, random.Random(params.seed)),
        data_collator=_collator(tokenizer),
        optimizers=(
            MuonAndAdamW(model, settings.muon_learning_rate, settings.adamw_learning_rate, settings.weight_decay),
            None,
        ),
    )
    trainer.remove_callback(PrinterCallback)  # the bar says it
    began = time.perf_counter()
    with Progress("base", {"loss": "loss"}) as progress:
        trainer.add_callback(progress)
        loss = trainer.train().training_loss
    model.save_pretrained(target / "model")
    tokenizer.save_pretrained(target / "model")
    shutil.rmtree(trainer.args.output_dir)  # made by transformers and empty: these steps take no checkpoints
    write_json(
        target / "metrics.json",
        {
            "parameters": model.num_parameters(),
            "vocabulary": len(tokenizer),
            "documents": len(documents),
            "documents_cut": sum(len(tokens["input_ids"]) == settings.architecture.context for tokens in sequences),
            "distinct_problems": len(rows),
            "steps": settings.steps,
            "loss": loss,
            "seconds": round(time.perf_counter() - began, 2),
        },
    )


def _collator(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[Tokens]], Any]:
    if torch.cuda.is_available():
        return partial(padded_right, padding=tokenizer.pad_token_id)
    return DataCollatorForSeq2Seq(tokenizer, padding=True)


def _arguments(settings: Base, seed: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir="scratch/base",
        per_device_train_batch_size=settings.batch_size,
        max_steps=settings.steps,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        train_sampling_strategy="sequential",  # the documents come shuffled, in batches of like length
        bf16=torch.cuda.is_available(),
        # A card's host has enough to do with launching kernels: batches are padded beside it.
        dataloader_num_workers=2 if torch.cuda.is_available() else 0,
        logging_steps=10,
        logging_nan_inf_filter=False,  # it would have the host wait for a card at each step
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
