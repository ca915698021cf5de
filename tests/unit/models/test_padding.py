"""Left padding shifts no position: a prompt and its completion have the same log-probabilities in a batch as alone."""

import pytest
import torch
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading, padding
from tiny_models import ACCEPTED, REFUSED, build, tokenizer

PROMPT = list(range(40, 60))
PADDED = 7
BYTES = tokenizer()
PAD = BYTES.pad_token_id


def shift(model) -> float:
    """By how much padding on the left moves the logits of the prompt, at most."""
    ids = torch.tensor([PROMPT])
    beside = torch.cat([torch.zeros(1, PADDED, dtype=torch.long), ids], 1)
    mask = (torch.arange(beside.shape[1]) >= PADDED).long()[None]
    with torch.no_grad():
        alone = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return (model(input_ids=beside, attention_mask=mask).logits[:, PADDED:] - alone).abs().max().item()


@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_positions_count_from_the_first_token(name):
    kind, keys = ACCEPTED[name]
    model = build(kind, **keys)
    padding.count_positions_from_the_first_token(model, PROMPT)
    assert shift(model) < 1e-4


# The longest prompt begins with the padding token: some tokenizers begin a text with the same token.
PROMPTS = [[PAD, *PROMPT], PROMPT[:5]]


def test_a_recurrent_model_is_refused_whatever_its_prompts_begin_with():
    kind, keys, _ = REFUSED["recurrent_gemma"]
    model = build(kind, **keys)
    with pytest.raises(PipelineError, match=r"does not ignore the padding of a batch: .* where layers are recurrent"):
        padding.require_ignored(model, BYTES, PROMPTS, "")


def test_a_model_whose_logits_are_not_numbers_is_refused():
    kind, keys = ACCEPTED["qwen2"]
    model = build(kind, **keys)
    padding.require_ignored(model, BYTES, PROMPTS, "")
    model.get_input_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(PipelineError, match=r"change its logits by up to nan"):
        padding.require_ignored(model, BYTES, PROMPTS, "")


def test_learned_positions_are_shifted_without_it():
    kind, keys = ACCEPTED["gpt2"]
    assert shift(build(kind, **keys)) > 0.01


def test_a_model_with_adapters_counts_them_too():
    kind, keys = ACCEPTED["gpt2"]
    model = loading.adapt(build(kind, **keys), Lora(rank=2, alpha=4, targets=["c_attn"]))
    padding.count_positions_from_the_first_token(model, PROMPT)
    assert shift(model) < 1e-4


def test_rotary_positions_are_left_as_they_are():
    kind, keys = ACCEPTED["qwen2"]
    model = build(kind, **keys)
    padding.count_positions_from_the_first_token(model, PROMPT)
    assert not model._forward_pre_hooks
