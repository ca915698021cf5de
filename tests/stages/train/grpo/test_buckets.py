"""Packed batches padded to few sizes: padding changes neither states nor gradients, and there is little of it."""

import itertools
from dataclasses import fields

import pytest
import torch
from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.cuda_graphs.buckets import PADDING_SEQUENCES, Bucket, bucket_of, pad, rounded
from gsm8k_grpo.stages.train.grpo.packing import Packed
from packed_batches import apart, gradients_of, packed_batch, varlen
from tiny_models import ACCEPTED, build

SEQUENCES = 12  # of four groups of two completions
# Groups, completions in a group, tokens of the longest prompt and completion.
BATCHES = [
    {"groups": 1}, {"groups": 4}, {"groups": 1, "prompt": 2, "length": 1}, {"groups": 2, "size": 6, "length": 200},
    {"groups": 8, "size": 16, "prompt": 200, "length": 256}, {"groups": 3, "size": 16, "prompt": 500, "length": 30},
    {"groups": 1, "size": 64, "prompt": 900, "length": 3},
]  # fmt: skip


@pytest.mark.parametrize("parts", [1, 4])
def test_sizes_are_few_and_close_to_what_they_hold(parts):
    sizes = [rounded(count, parts) for count in range(1, 2**15 + 1)]
    assert all(size - count < max(64, count / parts) for count, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 10 * parts
    assert sizes == sorted(sizes)
    assert [rounded(size, parts) for size in set(sizes)] == list(set(sizes))


def test_a_batch_of_1000_to_16000_tokens_has_one_of_few_sizes():
    """Four groups of 16 completions, of any length."""
    batches = [
        packed_batch(groups, seed, size=16, prompt=200, length=length)
        for seed, (groups, length) in enumerate(itertools.product((1, 2, 3, 4), (60, 100, 140, 180, 220, 256)))
    ]
    buckets = {bucket_of(packed, 68) for packed in batches}
    print(f"{len(buckets)} sizes of {len(batches)} batches, {len({bucket.tokens for bucket in buckets})} of tokens")
    assert {bucket.sequences for bucket in buckets} == {68 + PADDING_SEQUENCES}
    assert all(bucket.width == max(512, bucket.keys // PADDING_SEQUENCES) for bucket in buckets)
    assert len({bucket.tokens for bucket in buckets}) <= 16
    assert len(buckets) <= 2 * len({bucket.tokens for bucket in buckets})


@pytest.mark.parametrize("sizes", BATCHES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_padding_is_sequences_of_their_own(sizes, seed):
    packed = packed_batch(**sizes, seed=seed)
    most = sizes["groups"] * (sizes.get("size", 2) + 1)
    bucket = bucket_of(packed, most)
    padded = pad(packed, bucket)
    own, keys = packed.ids.shape[1], len(packed.keys)

    for name in ("ids", "positions", "group", "completion"):
        assert torch.equal(getattr(padded, name)[..., :own], getattr(packed, name))
        assert getattr(padded, name).shape[-1] == bucket.tokens
    assert torch.equal(padded.keys[:keys], packed.keys)
    assert len(padded.keys) == bucket.keys
    assert all(getattr(padded, name) is getattr(packed, name) for name in ("sources", "targets", "places"))

    queries, seen = (list(itertools.pairwise(starts.tolist())) for starts in (padded.query_starts, padded.key_starts))
    assert len(queries) == len(seen) == bucket.sequences
    assert (queries[-1][1], seen[-1][1]) == (bucket.tokens, bucket.keys)  # no token or key is in no sequence
    for (begin, end), (first, last) in zip(queries[most:], seen[most:], strict=True):
        assert 0 < end - begin <= last - first <= bucket.width
        assert padded.keys[last - (end - begin) : last].tolist() == list(range(begin, end))
        assert padded.keys[first:last].min() >= own
    assert bucket.tokens - own < max(96, own / 4 + 40)


def test_a_batch_without_some_groups_has_the_same_number_of_sequences():
    """The groups that are left out are empty sequences, which begin and end at the end."""
    one, four = (packed_batch(groups) for groups in (1, 4))
    padded = pad(one, bucket_of(one, SEQUENCES))
    assert bucket_of(one, SEQUENCES).sequences == bucket_of(four, SEQUENCES).sequences == SEQUENCES + PADDING_SEQUENCES
    behind = slice(3 + PADDING_SEQUENCES, None)
    assert padded.query_starts.diff()[behind].tolist() == padded.key_starts.diff()[behind].tolist() == [0] * 9
    assert padded.query_starts.dtype == padded.key_starts.dtype == one.key_starts.dtype


def test_batches_of_one_bucket_differ_in_values_alone():
    bucket = Bucket(tokens=448, keys=1024, width=512, sequences=44)
    one, other = (pad(packed_batch(4, seed), bucket) for seed in (1, 2))
    for field in fields(Packed):
        if field.name not in ("sources", "targets", "places"):
            values = getattr(one, field.name), getattr(other, field.name)
            assert values[0] == values[1] if field.name == "width" else values[0].shape == values[1].shape


def states_and_gradients(model, packed, shown):
    states = model.get_decoder()(**shown.inputs(model.config)).last_hidden_state[0, packed.sources]
    return states.detach(), gradients_of(states, packed, model)


def assert_the_same_when_padded(model, groups):
    packed = packed_batch(groups)
    padded = pad(packed, bucket_of(packed, SEQUENCES))
    states, gradients = states_and_gradients(model, packed, packed)
    ours, of_padded = states_and_gradients(model, packed, padded)
    torch.testing.assert_close(ours, states, rtol=1e-4, atol=1e-5)
    assert apart(of_padded, gradients) < 1e-4


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_padded_batch_has_the_states_and_gradients_of_the_batch(name, groups):
    kind, keys = ACCEPTED[name]
    assert_the_same_when_padded(build(kind, **keys), groups)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("name", ["llama", "granite", "mistral with a window", "gemma3", "qwen2 with a window", "gpt2"])
def test_a_padded_batch_has_them_with_the_attention_of_a_gpu(name, groups, monkeypatch):
    """A function that runs on the CPU replaces the kernel; what it leaves out is not a number."""
    monkeypatch.setattr(packing, "varlen_attn", varlen)
    kind, keys = ACCEPTED[name]
    assert_the_same_when_padded(build(kind, packing.ATTENTION, **keys), groups)
