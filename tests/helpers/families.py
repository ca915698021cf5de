"""Small models with the tokenizer, the chat template and the generation_config.json of several families of models."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Family:
    """What differs between families.

    Attributes:
        special: the special tokens in the order of their ids, which begin at 0.
        end: the tokenizer's own end token.
        pad: its padding token.
        bos: the token that the tokenizer puts before a text.
        template: the chat template.
        ends: `eos_token_id` of generation_config.json.
    """

    special: list[str]
    end: str
    pad: str | None
    bos: str | None
    template: str | None
    ends: int | list[int] | None


GEMMA_2 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ 'Today Date: ' + date_string + '\n' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_3 = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
FAMILIES = {
    "gemma2": Family(
        ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"], "<eos>", "<pad>", "<bos>", GEMMA_2, 1
    ),
    "llama3": Family(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
         "<|eot_id|>"], "<|eot_id|>", None, "<|begin_of_text|>", LLAMA_3, [1, 4, 5],
    ),
    "qwen3": Family(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", "<|endoftext|>", None, QWEN_3, None),
    "base": Family(["<|endoftext|>"], "<|endoftext|>", None, None, None, 0),
}  # fmt: skip


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer with the family's special tokens and one token per byte."""
    family = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=family.special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([], trainer)
    if family.bos:
        bos = [(family.bos, tokenizer.token_to_id(family.bos))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=bos)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=family.end,
        pad_token=family.pad,
        bos_token=family.bos,
        chat_template=family.template,
    )


def model_of(name: str, folder: Path) -> Path:
    """Write a model with random weights, whose attention heads are of a size that vLLM supports."""
    tokenizer = tokenizer_of(name)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=None, bos_token_id=tokenizer.bos_token_id,
        initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": FAMILIES[name].ends}))
    return folder
