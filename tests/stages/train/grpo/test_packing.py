"""A packed batch gives the same log-probabilities, entropies and gradients as a padded one, up to rounding."""

import itertools

import pytest
import torch
from gsm8k_grpo.models.logprobs import logps_and_entropies
from gsm8k_grpo.stages.train.grpo.packing import PROMPT, pack, unpack
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

TEMPERATURE = 0.7
# Two groups of two: prompts of 2 and 3 tokens, completions of 2, 1, 3 and 2.
IDS = torch.tensor([[0, 11, 12, 21, 22, 0], [0, 11, 12, 23, 0, 0], [13, 14, 15, 24, 25, 26], [13, 14, 15, 27, 28, 0]])
MASK = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
CONFIG = Qwen2Config(attn_implementation="sdpa")


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=40, num_key_value_heads=2, initializer_range=0.3, **shape)
    return Qwen2ForCausalLM._from_config(config, attn_implementation=request.param).eval()


def padded(model, ids, mask, completion_length):
    """As TRL computes them: positions start at the first token that the mask keeps."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits / TEMPERATURE
    logits = logits[:, -completion_length - 1 : -1]
    return selective_log_softmax(logits, ids[:, -completion_length:]), entropy_from_logits(logits)


def packed(model, ids, mask, completion_length, group_size):
    batch = pack(ids, mask, completion_length, group_size)
    hidden = model.model(**batch.inputs(model.config)).last_hidden_state
    results = logps_and_entropies(hidden[0, batch.sources], model.lm_head, batch.targets, TEMPERATURE)
    return [unpack(values, batch, len(ids), completion_length) for values in results]


def test_a_prompt_occurs_once_before_its_completions():
    batch = pack(IDS, MASK, completion_length=3, group_size=2)
    assert batch.ids[0].tolist() == [11, 12, 21, 22, 23, 13, 14, 15, 24, 25, 26, 27, 28]
    assert batch.positions[0].tolist() == [0, 1, 2, 3, 2, 0, 1, 2, 3, 4, 5, 3, 4]
    assert batch.completion.tolist() == [PROMPT, PROMPT, 0, 0, 1, PROMPT, PROMPT, PROMPT, 2, 2, 2, 3, 3]


def test_a_token_is_predicted_by_the_one_before_it_in_its_own_sequence():
    batch = pack(IDS, MASK, completion_length=3, group_size=2)
    assert batch.ids[0, batch.sources].tolist() == [12, 21, 12, 15, 24, 25, 15, 27]
    assert batch.targets.tolist() == [21, 22, 23, 24, 25, 26, 27, 28]
    assert unpack(batch.targets, batch, 4, 3).tolist() == [[21, 22, 0], [23, 0, 0], [24, 25, 26], [27, 28, 0]]


def test_completions_do_not_see_each_other_nor_another_group():
    seen = pack(IDS, MASK, completion_length=3, group_size=2).mask(CONFIG, None)[0, 0]
    assert seen[4].nonzero().flatten().tolist() == [0, 1, 4]  # 23 sees 11 12 and itself, not 21 22
    assert seen[12].nonzero().flatten().tolist() == [5, 6, 7, 11, 12]


def test_a_sequence_sees_its_prompt_and_itself():
    batch = pack(IDS, MASK, completion_length=3, group_size=2)
    queries = [batch.ids[0, a:b].tolist() for a, b in itertools.pairwise(batch.query_starts)]
    assert queries == [[11, 12], [21, 22], [23], [13, 14, 15], [24, 25, 26], [27, 28]]
    keys = [batch.ids[0, batch.keys[a:b]].tolist() for a, b in itertools.pairwise(batch.key_starts)]
    assert keys == [
        [11, 12], [11, 12, 21, 22], [11, 12, 23],
        [13, 14, 15], [13, 14, 15, 24, 25, 26], [13, 14, 15, 27, 28],
    ]  # fmt: skip


def test_log_probabilities_and_entropies_are_those_of_the_padded_batch(model):
    kept = MASK[:, 3:].bool()
    for ours, theirs in zip(packed(model, IDS, MASK, 3, 2), padded(model, IDS, MASK, 3), strict=True):
        torch.testing.assert_close(ours[kept], theirs[kept])
        assert (ours[~kept] == 0).all()


def test_gradients_are_those_of_the_padded_batch(model):
    weights = torch.randn(4, 3) * MASK[:, 3:]
    gradients = []
    for logps in (packed(model, IDS, MASK, 3, 2)[0], padded(model, IDS, MASK, 3)[0]):
        model.zero_grad()
        (logps * weights).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_size_of_chunks_changes_nothing(model, monkeypatch):
    whole = packed(model, IDS, MASK, 3, 2)
    monkeypatch.setattr("gsm8k_grpo.models.logprobs.CHUNK", 3)
    for one, other in zip(whole, packed(model, IDS, MASK, 3, 2), strict=True):
        torch.testing.assert_close(one, other)
