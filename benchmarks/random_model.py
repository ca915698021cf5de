"""Models of a published shape with random weights, for measurements without downloads."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from gsm8k_grpo.stages.base.corpus import Document
from gsm8k_grpo.stages.base.tokenizer import train_tokenizer
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

LEARNED = 8000  # tokens that the tokenizer learns; the rest of the vocabulary is filled up


def filled_tokenizer(documents: list[Document], vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer learned from documents, filled up to the model's vocabulary with tokens that occur in no text."""
    learned = train_tokenizer(documents, min(LEARNED, vocabulary - 100))
    content = json.loads(learned.backend_tokenizer.to_str())
    vocabulary_ids = content["model"]["vocab"]
    vocabulary_ids |= {token["content"]: token["id"] for token in content["added_tokens"]}
    vocabulary_ids |= {f"unused{index}": index for index in range(len(learned), vocabulary)}
    return PreTrainedTokenizerFast(
        tokenizer_object=type(learned.backend_tokenizer).from_str(json.dumps(content)),
        pad_token=learned.pad_token,
        eos_token=learned.eos_token,
        chat_template=learned.chat_template,
        padding_side="left",
    )


def write_model(folder: Path, config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write model and tokenizer in a separate process, so that the caller's process holds no GPU memory."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        process.submit(_write, folder, config, tokenizer).result()


def _write(folder: Path, config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
