"""Pretraining a base model from scratch: its shape, its batches, and its training.

On a GPU the weights are in 32 bit and the computation is in bfloat16.  A CPU computes in 32 bit, and the same seed
gives the same bytes there.
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
from gsm8k_grpo.records import BaseMetrics, Example
from gsm8k_grpo.runtime.trainer_progress import TrainerProgress
from gsm8k_grpo.stages.base.corpus import Document, corpus
from gsm8k_grpo.stages.base.optimizers import MuonAndAdamW
from gsm8k_grpo.stages.base.tokenizer import (
    TOKENIZER_DOCUMENTS,
    UNLABELLED,
    Tokens,
    count_cut,
    tokenize_documents,
    train_tokenizer,
)

WORK_FOLDER = Path(".work/base")  # transformers wants a folder; nothing is written into it


def pretrain(rows: list[Example], target: Path, params: Params) -> None:
    """Make a tokenizer and a model, train the model on the corpus of `rows`, and save both in `target / "model"`.

    Also writes `target / "metrics.json"` (`records.BaseMetrics`).
    """
    settings = params.base
    assert settings is not None, "Params refuses `model: scratch` without the section base"
    torch.set_num_threads(params.threads)
    set_seed(params.seed)
    documents = corpus(rows, settings, params.seed, params.extract.answer_form)
    tokenizer = train_tokenizer(documents[:TOKENIZER_DOCUMENTS], settings.architecture.vocabulary)
    model = new_model(settings.architecture, tokenizer)
    sequences = _tokenized(documents, tokenizer, settings.architecture.context)
    trainer = _trainer(model, tokenizer, sequences, settings, params.seed)
    began = time.perf_counter()
    with TrainerProgress("base", {"loss": "loss"}) as progress:
        trainer.add_callback(progress)
        loss = trainer.train().training_loss
    shutil.rmtree(WORK_FOLDER)  # transformers made it; it is empty, since no checkpoints are saved
    model.save_pretrained(target / "model")
    tokenizer.save_pretrained(target / "model")
    metrics: BaseMetrics = {
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "documents": len(documents),
        "documents_cut": count_cut(sequences, tokenizer),
        "distinct_problems": len(rows),
        "steps": settings.steps,
        "loss": loss,
        "seconds": round(time.perf_counter() - began, 2),
    }
    write_json(target / "metrics.json", metrics)


def new_model(shape: Architecture, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A Qwen2 model with random weights, for the tokens of `tokenizer`."""
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
            # transformers' default of 0.02 suits wide models; narrow ones learn several times slower from it.
            initializer_range=shape.hidden**-0.5,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        ),
        attn_implementation="sdpa" if torch.cuda.is_available() else CPU_ATTENTION,
    )


def batches_of_like_length(sequences: list[Tokens], batch_size: int, rng: random.Random) -> list[Tokens]:
    """Reorder the sequences so that consecutive batches need little padding, and shuffle these batches.

    transformers' `group_by_length` goes from long to short sequences again and again, and a small model forgets the
    ones while it learns the others.
    """
    window = 20 * batch_size
    ordered: list[Tokens] = []
    for start in range(0, len(sequences), window):
        by_length = sorted(sequences[start : start + window], key=lambda tokens: len(tokens["input_ids"]))
        batches = [by_length[first : first + batch_size] for first in range(0, len(by_length), batch_size)]
        rng.shuffle(batches)
        ordered += itertools.chain.from_iterable(batches)
    return ordered


def padded_right(sequences: list[Tokens], padding: int) -> dict[str, torch.Tensor]:
    """A batch for a GPU: `input_ids` and `labels` of shape (sequences, longest), padded on the right, without a mask.

    Causal attention needs no mask here, as no token attends to the padding after it.  Without a mask the faster
    attention kernel is used, and the CPU, which prepares steps ahead of the GPU, loses no time on padding lists.
    """
    longest = max(len(tokens["input_ids"]) for tokens in sequences)
    return {
        key: torch.tensor([tokens[key] + [fill] * (longest - len(tokens[key])) for tokens in sequences])
        for key, fill in (("input_ids", padding), ("labels", UNLABELLED))
    }


def _tokenized(documents: list[Document], tokenizer: PreTrainedTokenizerFast, context: int) -> list[Tokens]:
    """`tokenize_documents`, without Python's garbage collector.

    The result is hundreds of thousands of lists, none of them garbage, which the collector would search repeatedly.
    """
    gc.disable()
    sequences = tokenize_documents(documents, tokenizer, context)
    gc.freeze()
    gc.enable()
    return sequences


def _trainer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sequences: list[Tokens], settings: Base, seed: int
) -> Trainer:
    trainer = Trainer(
        model=model,
        args=_arguments(settings, seed),
        train_dataset=batches_of_like_length(sequences, settings.batch_size, random.Random(seed)),
        data_collator=_collator(tokenizer),
        optimizers=(
            MuonAndAdamW(model, settings.muon_learning_rate, settings.adamw_learning_rate, settings.weight_decay),
            None,
        ),
    )
    trainer.remove_callback(PrinterCallback)  # the progress bar shows the loss
    return trainer


def _collator(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[Tokens]], Any]:
    if torch.cuda.is_available():
        return partial(padded_right, padding=tokenizer.pad_token_id)
    return DataCollatorForSeq2Seq(tokenizer, padding=True)


def _arguments(settings: Base, seed: int) -> TrainingArguments:
    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(WORK_FOLDER),
        per_device_train_batch_size=settings.batch_size,
        max_steps=settings.steps,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # a value below 1 is a share of all steps
        train_sampling_strategy="sequential",  # the documents are already shuffled, in batches of like length
        bf16=on_gpu,
        # Launching kernels keeps the main process busy, so other processes pad the batches for a GPU.
        dataloader_num_workers=2 if on_gpu else 0,
        dataloader_pin_memory=on_gpu,  # torch warns where there is no GPU to pin memory for
        logging_steps=10,
        logging_nan_inf_filter=False,  # the filter would make the CPU wait for the GPU at each step
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
