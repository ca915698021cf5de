"""Pretraining of a base model made here: its shape, its batches, its schedule.

Where there is a CUDA GPU it is used: the weights are in 32 bit there too, and what is computed with them is in
bfloat16.  A CPU computes in 32 bit, and the same seed gives the same bytes.
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

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Architecture, Base
from gsm8k_grpo.files import write_json
from gsm8k_grpo.models.loading import CPU_ATTENTION
from gsm8k_grpo.runtime.trainer_progress import TrainerProgress
from gsm8k_grpo.stages.base.corpus import corpus
from gsm8k_grpo.stages.base.optimizers import MuonAndAdamW
from gsm8k_grpo.stages.base.tokenizer import TOKENIZER_DOCUMENTS, Tokens, tokenize, train_tokenizer


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


def pretrain(rows: list[dict[str, Any]], target: Path, params: Params) -> None:
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
    with TrainerProgress("base", {"loss": "loss"}) as progress:
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
        output_dir=".work/base",
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
