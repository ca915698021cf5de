"""The engine `graphs`: tokens, log-probabilities and ends of completions are those of transformers' `generate`."""

from collections.abc import Sequence

import pytest
import torch
from gsm8k_grpo.config.sections import Graphs
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models.decoding import batch, check, decoder
from gsm8k_grpo.models.decoding.attention import ATTENTION
from gsm8k_grpo.models.decoding.decoder import Decoder
from gsm8k_grpo.models.decoding.sampling import Sampler
from tiny_models import ACCEPTED, REFUSED, build, tokenizer

GREEDY = Sampler(temperature=0)
LENGTHS = (3, 50, 20, 1, 33, 8, 27)  # tokens of the prompts, some more than a sliding window
LIMIT = 24
# Their layers keep a state other than keys and values, or have a mask of their own.
REFUSED_HERE = ("gemma2", "stablelm")
UNDECODABLE = (
    *REFUSED_HERE,
    "bamba",
    "bloom",
    "falcon_h1",
    "gpt_oss",
    "jamba",
    "lfm2",
    "mamba2",
    "qwen3_5",
    "recurrent_gemma",
)


def prompts() -> list[list[int]]:
    drawn = torch.Generator().manual_seed(3)
    return [torch.randint(1, 250, (length,), generator=drawn).tolist() for length in LENGTHS]


def decoder_of(
    name: str = "llama", rows: int = 3, gib: float = 0.01, ends: Sequence[int] = (), compiled: bool = False
) -> Decoder:
    kind, keys = (ACCEPTED | REFUSED)[name][:2]
    of_bytes = tokenizer()
    of_bytes.stop_tokens += ends
    settings = Graphs(max_num_seqs=rows, kv_cache_gib=gib, compile=compiled)
    return Decoder(build(kind, ATTENTION, **keys), of_bytes, settings)


def generate(of: Decoder, copies: int = 1, limit: int = LIMIT, sampler: Sampler = GREEDY, **options):
    """The completions of each prompt, in order."""
    found = [[None] * copies for _ in LENGTHS]
    for index, copy, generated in of.generate(prompts(), copies, limit, sampler, **options):
        found[index][copy] = generated
    return found


def by_transformers(of: Decoder, ids: list[int], limit: int = LIMIT) -> list[int]:
    """The greedy completion, by passes over the whole sequence."""
    network, sequence = of.network, list(ids)
    for _ in range(limit):
        logits = network(input_ids=torch.tensor([sequence]), use_cache=False).logits[0, -1]
        sequence.append(logits.argmax().item())
        if sequence[-1] in of._setup.stop_tokens:
            break
    return sequence[len(ids) :]


@pytest.mark.parametrize("name", [*(name for name in ACCEPTED if name not in REFUSED_HERE), "mixtral", "qwen3_moe"])
def test_greedy_tokens_are_those_of_passes_over_the_whole_sequence(name):
    """Seven prompts of different lengths in three rows, so that rows are taken over and move."""
    of = decoder_of(name)
    check.require(of, prompts())
    expected = [by_transformers(of, ids) for ids in prompts()]
    assert [generated.ids for (generated,) in generate(of)] == expected


@pytest.mark.parametrize("name", UNDECODABLE)
def test_a_model_with_another_state_or_mask_is_refused(name):
    with pytest.raises(PipelineError, match=r"^engine = graphs: \w+ can't be decoded .*; use engine: vllm or trans"):
        check.require(decoder_of(name), prompts())


@pytest.mark.parametrize("differences", [(0.0, float("nan")), (float("nan"), 0.0)])
def test_a_model_whose_log_probabilities_are_not_numbers_is_refused(differences, monkeypatch):
    """Whichever of the two completions has them."""
    found = iter(differences)
    monkeypatch.setattr(check, "_apart", lambda *_: next(found))
    with pytest.raises(PipelineError, match="the log-probabilities of its tokens are nan from those"):
        check.require(decoder_of(), prompts())


def test_a_limit_and_a_stop_token_end_a_completion_and_count():
    of = decoder_of()
    whole = generate(of, limit=9)
    assert [len(generated.ids) for (generated,) in whole] == [9] * len(LENGTHS)
    of = decoder_of(ends=[whole[0][0].ids[4]])
    expected = [up_to(generated.ids, whole[0][0].ids[4]) for (generated,) in whole]
    assert [generated.ids for (generated,) in generate(of, limit=9)] == expected
    assert len(expected[0]) <= 5


def up_to(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids


def test_a_completion_can_be_ended_by_its_tokens():
    """Asked every few steps, so the completion may be longer; the caller cuts it."""
    of = decoder_of()
    found = generate(of, ends=lambda ids: len(ids) >= 5)
    assert all(5 <= len(generated.ids) < 5 + 2 * decoder.STEPS for (generated,) in found)


def test_samples_follow_the_distribution_and_have_its_log_probabilities():
    """5,000 first tokens at a temperature of 0.5, of the three most probable tokens."""
    of, sampler = decoder_of(rows=400), Sampler(temperature=0.5, top_k=3)
    prompt = prompts()[1]
    torch.manual_seed(1)
    drawn = [generated for *_, generated in of.generate([prompt], 5_000, 1, sampler)]
    logits = of.network(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1] / 0.5
    best = logits.topk(3).indices
    expected = logits[best].softmax(-1)
    shares = torch.tensor([sum(one.ids == [token] for one in drawn) for token in best.tolist()]) / len(drawn)
    torch.testing.assert_close(shares, expected, atol=0.03, rtol=0)
    assert shares.sum() == 1
    logp = dict(zip(best.tolist(), expected.log().tolist(), strict=True))
    assert all(one.logps[0] == pytest.approx(logp[one.ids[0]], abs=1e-4) for one in drawn[:100])


def test_the_same_seed_gives_the_same_samples_after_an_interrupted_generation():
    of, sampler = decoder_of(), Sampler(temperature=1.0)
    torch.manual_seed(1)
    expected = generate(of, copies=2, sampler=sampler)
    next(of.generate(prompts(), 2, LIMIT, sampler))  # a signal ends it like this
    torch.manual_seed(1)
    assert generate(of, copies=2, sampler=sampler) == expected


def test_compiled_layers_and_choices_give_the_same_tokens():
    """gpt2, whose layers have another name."""
    expected = generate(decoder_of("gpt2"))
    compiled = generate(decoder_of("gpt2", compiled=True))
    assert [one.ids for (one,) in compiled] == [one.ids for (one,) in expected]


def test_prompts_are_computed_once_and_in_passes_of_limited_size(monkeypatch):
    monkeypatch.setattr(batch, "PREFILL_TOKENS", 60)
    of, calls = decoder_of(rows=40), []
    forward = of.network.get_decoder().forward
    monkeypatch.setattr(
        of.network.get_decoder(), "forward",
        lambda **inputs: calls.append(tuple(inputs["input_ids"].shape)) or forward(**inputs),
    )  # fmt: skip
    generate(of, copies=4, limit=1)
    assert [shape for shape in calls if shape[1] > 1] == [(1, 3), (1, 50), (2, 20), (1, 33), (2, 27)]


def test_a_cache_that_holds_no_completion_is_refused():
    with pytest.raises(PipelineError, match=r"^graphs\.kv_cache_gib = 1e-05: holds 41 tokens, and the longest prompt"):
        generate(decoder_of(gib=1e-5))


def test_the_order_of_a_prompts_completions_is_not_that_in_which_they_end():
    """Otherwise the first of them would be the shortest, and so would be the first of several with the best reward."""
    of = decoder_of(rows=40, ends=range(0, 250, 10))  # a tenth of the tokens, so that lengths differ
    torch.manual_seed(1)
    found = generate(of, copies=20, sampler=Sampler(temperature=1.0))
    lengths = torch.tensor([[len(generated.ids) for generated in group] for group in found]).float()
    assert lengths.std() > 3
    place = torch.arange(20.0).expand_as(lengths)
    assert abs(torch.corrcoef(torch.stack([place.flatten(), lengths.flatten()]))[0, 1]) < 0.3
