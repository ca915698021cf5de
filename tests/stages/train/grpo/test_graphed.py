"""The update by replayed passes: on a CPU `tape.recorded` takes the place of CUDA graphs."""

from contextlib import nullcontext
from functools import partial

import pytest
import tape
import torch
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.cuda_graphs import graphed
from gsm8k_grpo.stages.train.grpo.cuda_graphs.graphed import GraphedDecoder
from packed_batches import apart, gradients_of, packed_batch, varlen
from tiny_models import ACCEPTED, LLAMA, build

ONE, OTHER = [packed_batch(4, seed) for seed in (0, 5)]  # two batches of one size
SMALL = packed_batch(1)
LORA = Lora(rank=4, alpha=8, targets=["q_proj", "up_proj", "down_proj"])


def adapted(network):
    """The model inside the wrapper of adapters whose effect is not zero."""
    model = loading.adapt(network, LORA)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model.get_base_model()


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(graphed, "recorded", tape.recorded)
    monkeypatch.setattr(packing, "varlen_attn", varlen)


@pytest.fixture(params=["eager attention", "attention of a GPU", "adapters", "checkpointing"])
def model(request):
    network = build("llama", packing.ATTENTION if request.param == "attention of a GPU" else "eager", **LLAMA)
    if request.param == "adapters":
        network = adapted(network)
    if request.param == "checkpointing":
        network.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    return network.train()


def graphed_decoder(model, autocast=nullcontext) -> GraphedDecoder:
    return GraphedDecoder(model.get_decoder(), autocast, sequences=12)


def expected(model, packed):
    states = model.get_decoder()(**packed.inputs(model.config)).last_hidden_state[0, packed.sources]
    return gradients_of(states, packed, model)


def computed(of, model, packed):
    return gradients_of(of.states(packed)[packed.sources], packed, model)


def test_first_captured_and_replayed_passes_have_the_gradient_of_the_batch(model):
    of = graphed_decoder(model)
    for packed in (ONE, OTHER, ONE, SMALL, OTHER, SMALL, SMALL, ONE):
        assert apart(computed(of, model, packed), expected(model, packed)) < 1e-4
    assert len(of._graphs) == 2


@pytest.mark.parametrize("name", [name for name in ACCEPTED if name != "opt"])
def test_the_architectures_of_packed_batches_can_be_captured(name):
    """opt draws a random number on the CPU, where the tape takes it for one that waits for the GPU."""
    kind, keys = ACCEPTED[name]
    network = build(kind, **keys).train()
    of = graphed_decoder(network)
    for packed in (ONE, OTHER, ONE):
        assert apart(computed(of, network, packed), expected(network, packed)) < 1e-4


@pytest.mark.parametrize("name", ["granite", "mistral with a window", "gemma3", "qwen2 with a window", "gpt2"])
def test_so_can_those_with_the_attention_of_a_gpu(name):
    kind, keys = ACCEPTED[name]
    network = build(kind, packing.ATTENTION, **keys).train()
    of = graphed_decoder(network)
    for packed in (ONE, OTHER, ONE):
        assert apart(computed(of, network, packed), expected(network, packed)) < 1e-4


def test_states_are_those_of_the_batch(model):
    of = graphed_decoder(model)
    for packed in (ONE, OTHER, ONE):
        states = of.states(packed)
        eager = model.get_decoder()(**packed.inputs(model.config)).last_hidden_state[0]
        torch.testing.assert_close(states[: len(eager)], eager, rtol=1e-4, atol=1e-5)
        states.sum().backward()


def test_weights_that_an_optimizer_changes_are_seen(model):
    of = graphed_decoder(model)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    before = [computed(of, model, ONE) for _ in range(2)][1]
    optimizer.step()
    optimizer.zero_grad()
    after = computed(of, model, ONE)
    assert apart(after, before) > 0.01
    assert apart(after, expected(model, ONE)) < 1e-4


def test_gradients_of_several_batches_add_up(model):
    """Also of one size, whose graphs write each gradient to the same place."""
    of = graphed_decoder(model)
    for _ in range(2):
        computed(of, model, ONE)
    batches = (ONE, OTHER, ONE)
    alone = [expected(model, packed) for packed in batches]
    model.zero_grad()
    for packed in batches:
        of.states(packed)[packed.sources].sum().backward()
    together = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    for packed in batches:
        model.get_decoder()(**packed.inputs(model.config)).last_hidden_state[0, packed.sources].sum().backward()
    eager = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert alone[0].keys() == together.keys()
    assert apart(together, eager) < 1e-4


def test_a_second_forward_pass_before_the_backward_pass_is_refused(model):
    """It would overwrite what the backward pass needs, also if it is of another size."""
    of = graphed_decoder(model)
    for packed in (ONE, SMALL, ONE, SMALL):
        computed(of, model, packed)
    for packed in (ONE, SMALL):
        waiting = of.states(ONE)
        with pytest.raises(RuntimeError, match="backward pass before the next forward pass"):
            of.states(packed)
        waiting.sum().backward()
    assert apart(computed(of, model, SMALL), expected(model, SMALL)) < 1e-4


def test_a_size_is_captured_when_it_occurs_again_and_a_larger_one_begins_anew(model):
    of = graphed_decoder(model)
    captured = []
    for packed in (SMALL, SMALL, ONE, SMALL, ONE, SMALL):
        computed(of, model, packed)
        captured.append(sorted(bucket.tokens for bucket in of._graphs))
    small, large = captured[-1]
    assert captured == [[], [small], [], [small], [small, large], [small, large]]


def test_a_weight_without_a_gradient_has_none():
    network = build("llama", **LLAMA).train()
    network.get_decoder().unused = torch.nn.Parameter(torch.zeros(3))
    of = graphed_decoder(network)
    for _ in range(3):
        assert computed(of, network, ONE).keys() == expected(network, ONE).keys()
    assert network.get_decoder().unused.grad is None


def in_16_bit(cache: bool):
    return partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=cache)


@pytest.mark.parametrize("cache", [False, True], ids=["without cache", "with cache"])
def test_with_autocast_changed_weights_are_seen_if_cast_weights_are_not_cached(cache):
    """With the cache, a weight is cast before the capture, and the graph reads that copy for ever."""
    network = build("llama", **LLAMA).train()
    of = graphed_decoder(network, in_16_bit(cache))
    with in_16_bit(cache)():
        for _ in range(2):
            computed(of, network, ONE)
        for weight in network.parameters():
            weight.data.mul_(1.1)
        replayed = computed(of, network, ONE)
    fresh = computed(graphed_decoder(network, in_16_bit(cache=False)), network, ONE)  # a first pass, without a graph
    assert (apart(replayed, fresh) < 0.001) == (not cache)


def test_a_decoder_whose_pass_waits_for_the_gpu_is_refused_by_name():
    """As the positional encoding that looks how long a batch is."""
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    network = build("llama", **LLAMA | {"rope_parameters": scaling}).train()
    of = graphed_decoder(network)
    computed(of, network, ONE)
    with pytest.raises(PipelineError, match=r"^train\.cuda_graphs = true: .* LlamaModel can't be captured .* false$"):
        of.states(ONE)


def test_graphs_that_do_not_repeat_the_pass_are_refused_by_name(monkeypatch):
    def forgetful(work, pool):
        tape.recorded(work, pool)
        return lambda: None

    monkeypatch.setattr(graphed, "recorded", forgetful)
    network = build("llama", **LLAMA).train()
    of = graphed_decoder(network)
    computed(of, network, ONE)
    with pytest.raises(PipelineError, match=r"LlamaModel is not right as graphs: .* set cuda_graphs: false$"):
        of.states(ONE)


@pytest.mark.parametrize("differences", [(0.0, float("nan")), (float("nan"), 0.0)], ids=["gradients", "states"])
def test_graphs_whose_results_are_not_numbers_are_refused(differences, monkeypatch):
    monkeypatch.setattr(graphed, "recorded", tape.recorded)
    found = iter(differences)
    monkeypatch.setattr(graphed, "_apart", lambda _: next(found))
    network = build("llama", **LLAMA).train()
    of = graphed_decoder(network)
    computed(of, network, ONE)
    with pytest.raises(PipelineError, match="states or gradients are nan from those without graphs"):
        of.states(ONE)
