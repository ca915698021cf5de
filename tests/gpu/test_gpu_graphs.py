"""The engine `graphs` on a GPU: what its CUDA graphs, its flash attention and its compiled layers decode is right.

`check.require` compares log-probabilities of decoded tokens, the last of them from replayed graphs, with those
of passes over whole sequences.  These tests need a GPU, and no vLLM.
"""

import pytest
import torch
from gsm8k_grpo.config.sections import Graphs
from gsm8k_grpo.models.decoding import check
from gsm8k_grpo.models.decoding.attention import ATTENTION
from gsm8k_grpo.models.decoding.decoder import Decoder
from gsm8k_grpo.models.decoding.sampling import Sampler
from tiny_models import ACCEPTED, build, tokenizer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GREEDY = Sampler(temperature=0)
WIDE = {"hidden_size": 128, "head_dim": 32, "intermediate_size": 192}  # flash attention needs heads of 32 or more


def prompts(count: int = 9) -> list[list[int]]:
    drawn = torch.Generator().manual_seed(3)
    return [torch.randint(1, 250, (4 + 11 * index % 60,), generator=drawn).tolist() for index in range(count)]


def decoder_of(name: str, dtype: torch.dtype, compiled: bool, rows: int = 4) -> Decoder:
    kind, keys = ACCEPTED[name]
    network = build(kind, ATTENTION, **keys | (WIDE if "head_dim" in keys else {})).to("cuda", dtype)
    return Decoder(network, tokenizer(), Graphs(max_num_seqs=rows, kv_cache_gib=0.1, compile=compiled))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral with a window", "gemma3", "gpt2"])
def test_decoded_log_probabilities_are_those_of_whole_sequences(name, dtype, compiled):
    torch._dynamo.reset()
    check.require(decoder_of(name, dtype, compiled), prompts())


def test_graphs_of_all_sizes_give_the_tokens_of_single_rows():
    """Many prompts in 40 rows go through several sizes of graphs as rows end, and rows move."""
    many, single = decoder_of("llama", torch.float32, False, rows=40), decoder_of("llama", torch.float32, False, rows=1)
    single.network.load_state_dict(many.network.state_dict())
    found, alone = (
        {index: one.ids for index, _, one in of.generate(prompts(60), 1, 48, GREEDY)} for of in (many, single)
    )
    assert found == alone
    assert len(next(iter(many._batches.values()))._graphs) >= 3


def test_samples_follow_the_seed_and_the_distribution():
    """The share of each first token among 20,000 samples is its probability."""
    of = decoder_of("llama", torch.float32, False, rows=500)
    prompt = prompts()[:1]

    def sample(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return [generated.ids[0] for *_, generated in of.generate(prompt, 20_000, 1, Sampler(1.0))]

    drawn = sample(1)
    assert drawn == sample(1) != sample(2)
    logits = of.network(input_ids=torch.tensor(prompt, device="cuda"), use_cache=False).logits[0, -1]
    expected = logits.float().softmax(-1)
    shares = torch.bincount(torch.tensor(drawn, device="cuda"), minlength=len(expected)) / len(drawn)
    assert (shares - expected).abs().max() < 5 * (expected.max() / len(drawn)).sqrt()


def test_new_weights_change_what_is_generated():
    """Graphs read the weights where they are, so replacing them in place needs no new capture."""
    of = decoder_of("llama", torch.float32, False)
    before = [generated.ids for *_, generated in of.generate(prompts(), 1, 24, GREEDY)]
    kind, keys = ACCEPTED["llama"]
    torch.manual_seed(5)
    other = build(kind, ATTENTION, **keys | WIDE)
    for own, new in zip(of.network.parameters(), other.parameters(), strict=True):
        own.data.copy_(torch.randn_like(new) * 0.1)
    after = [generated.ids for *_, generated in of.generate(prompts(), 1, 24, GREEDY)]
    assert before != after
    check.require(of, prompts())
