"""`train.cuda_graphs` on a GPU: replayed passes give what passes without graphs give.  These tests need no vLLM.

Replayed passes compute the same padded batch with the same kernels as a first pass, which has no graph, so they differ
by the order of additions only.  The batch without padding differs by rounding to 16 bit.
"""

import itertools
import shutil
from functools import partial

import pandas as pd
import pytest
import torch
from datasets import Dataset
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.compiling import compile_layers
from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.cuda_graphs.graphed import GraphedDecoder
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from packed_batches import apart, gradients_of, on_gpu, packed_batch
from packed_update import gradients
from small_run import TRAIN, run
from tiny_models import ACCEPTED, build, tokenizer
from trl import GRPOConfig

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
WIDE = {"hidden_size": 128, "head_dim": 32, "intermediate_size": 192}  # flash attention needs heads of 32 or more
LORA = Lora(rank=4, alpha=8, targets=["q_proj", "up_proj", "down_proj"])
AUTOCAST = partial(torch.autocast, "cuda", torch.bfloat16, cache_enabled=False)
CHECKPOINTING = {"use_reentrant": False, "preserve_rng_state": False}
ORDER, ROUNDING = 0.02, 0.15  # relative differences of gradients


def network_of(name="llama", lora=False):
    """All weights in 32 bit, or adapters of weights in 16 bit."""
    kind, keys = ACCEPTED[name]
    network = build(kind, packing.ATTENTION, **keys | (WIDE if "head_dim" in keys else {})).to("cuda")
    if not lora:
        return network
    adapted = loading.adapt(network.to(torch.bfloat16), LORA)
    for weight_name, weight in adapted.named_parameters():
        if "lora_B" in weight_name:
            torch.nn.init.normal_(weight, std=0.1)
    return adapted


def decoder_of(network) -> GraphedDecoder:
    return GraphedDecoder(network.get_decoder(), AUTOCAST, sequences=12)


def computed(of, network, packed):
    return gradients_of(of.states(packed)[packed.sources], packed, network)


def first_pass(network, packed):
    """The gradient of the padded batch without a graph."""
    return computed(decoder_of(network), network, packed)


def without_padding(network, packed):
    decoder = network.get_decoder()
    with AUTOCAST():
        states = decoder(**packed.inputs(decoder.config)).last_hidden_state[0, packed.sources]
    return gradients_of(states, packed, network)


def batches():
    """Two batches of one size, and one of another."""
    return [on_gpu(packed) for packed in (packed_batch(4, 0), packed_batch(4, 5), packed_batch(1))]


def require_equal(of, network, packed):
    replayed = computed(of, network, packed)
    found = apart(replayed, first_pass(network, packed)), apart(replayed, without_padding(network, packed))
    print(f"apart by {found[0]:.5f} from a first pass, by {found[1]:.4f} from the batch without padding")
    assert found[0] < ORDER
    assert found[1] < ROUNDING


@pytest.mark.parametrize("checkpointing", [False, True], ids=["activations kept", "checkpointing"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "adapters"])
def test_replayed_passes_have_the_gradient_of_passes_without_graphs(lora, compiled, checkpointing):
    torch._dynamo.reset()
    model = network_of(lora=lora).train()
    network = model.get_base_model() if lora else model
    if checkpointing:
        network.gradient_checkpointing_enable(CHECKPOINTING)
        network.enable_input_require_grads()
    if compiled:
        compile_layers(network)
    of, (one, other, small) = decoder_of(network), batches()
    for packed in (one, other, one, small, small, other, small):
        require_equal(of, network, packed)
    assert len(of._graphs) == 2

    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    before = computed(of, network, one)
    optimizer.step()
    assert apart(computed(of, network, one), before) > ROUNDING
    require_equal(of, network, one)


@pytest.mark.parametrize("name", ["qwen3", "mistral with a window", "gemma3", "gpt2"])
def test_other_architectures_can_be_captured(name):
    network = network_of(name).train()
    of, (one, other, small) = decoder_of(network), batches()
    for packed in (one, small, other, small):
        require_equal(of, network, packed)
    assert len(of._graphs) == 2


def test_gradients_of_batches_of_one_size_add_up():
    network = network_of().train()
    of, (one, other, _) = decoder_of(network), batches()
    for _ in range(2):
        computed(of, network, one)
    sums = []
    for states in (of.states, lambda packed: decoder_of(network).states(packed)):
        network.zero_grad()
        for packed in (one, other, one):
            states(packed)[packed.sources].float().pow(2).sum().backward()
        sums.append(
            {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
        )
    assert apart(*sums) < ORDER


def test_graphs_of_smaller_batches_take_the_memory_of_the_largest():
    network = network_of().train()
    large, small = (on_gpu(packed_batch(groups, size=16, prompt=100, length=200)) for groups in (12, 6))
    of = GraphedDecoder(network.get_decoder(), AUTOCAST, sequences=12 * 17)
    torch.cuda.empty_cache()
    reserved = [torch.cuda.memory_reserved()]
    for packed in (large, small):
        for _ in range(3):
            computed(of, network, packed)
        network.zero_grad()
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved())
    assert len(of._graphs) == 2
    of_large, of_small = (after - before for before, after in itertools.pairwise(reserved))
    print(f"{of_large / 2**20:.0f} MiB for the large batch, {of_small / 2**20:.0f} MiB more for the small one")
    assert of_large > 100 * 2**20
    assert of_small < 0.2 * of_large


# The trainer

PROMPT, LENGTH = 40, 24


def trainer_of(folder, graphs: bool, compiled: bool, lora: bool) -> PackedGRPOTrainer:
    args = GRPOConfig(
        output_dir=str(folder), bf16=True, max_steps=1, per_device_train_batch_size=8, num_generations=4,
        max_completion_length=LENGTH, loss_type="dapo", report_to="none", gradient_checkpointing=False,
    )  # fmt: skip
    rows = [{"prompt": [{"role": "user", "content": f"What is {number} + 3?"}]} for number in range(4)]
    return PackedGRPOTrainer(
        model=network_of(lora=lora), processing_class=tokenizer(), args=args, train_dataset=Dataset.from_list(rows),
        reward_funcs=lambda completions, **unused: [0.0] * len(completions), compiled=compiled, sampled=False,
        graphs=graphs,
    )  # fmt: skip


def inputs(advantages: list[float]) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(4)
    prompts = torch.randint(1, 250, (2, PROMPT), generator=drawn).repeat_interleave(4, 0)
    completions = torch.randint(1, 250, (8, LENGTH), generator=drawn)
    ended = torch.ones_like(completions)
    for row in range(8):
        ended[row, LENGTH - 2 * row :] = 0
    tensors = {
        "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts), "completion_ids": completions,
        "completion_mask": ended, "num_items_in_batch": ended.sum(), "advantages": torch.tensor(advantages),
        "old_per_token_logps": -6 - torch.rand(8, LENGTH, generator=drawn),
    }  # fmt: skip
    return {name: tensor.cuda() for name, tensor in tensors.items()}


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "adapters"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_losses_log_probabilities_and_gradients_of_an_update_are_those_without_graphs(tmp_path, compiled, lora):
    torch._dynamo.reset()
    eager, graphed = (trainer_of(tmp_path, graphs, compiled, lora) for graphs in (False, True))
    both, first = inputs([1.0, -1.0, 0.5, -0.5] * 2), inputs([1.0, -1.0, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0])
    for batch in (both, first, both, first, both, first):
        expected = {name: gradient.clone() for name, gradient in gradients(eager, batch).items()}
        assert apart(gradients(graphed, batch), expected) < ROUNDING
        losses, logps = [], []
        for trainer in (eager, graphed):
            loss = trainer._compute_loss(trainer.model, batch)
            losses.append(loss.item())
            loss.backward()
            ids, mask = (
                torch.cat([batch[f"prompt_{kind}"], batch[f"completion_{kind}"]], 1) for kind in ("ids", "mask")
            )
            # With a gradient, and of both groups.
            of_both = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, LENGTH)[0]
            of_both.sum().backward()
            logps.append(of_both.detach())
        assert losses[1] == pytest.approx(losses[0], rel=0.02, abs=0.02)
        assert (logps[1] - logps[0]).abs().mean() < 0.1
    assert len(graphed._graphed._graphs) == 2


# A run

RUN = {
    "base__architecture__hidden": "256", "base__architecture__heads": "4", "precision": "mixed", "engine": "graphs",
    "graphs": "{max_num_seqs: 64, kv_cache_gib: 0.5, compile: false}", "train__share_prompts": "true",
}  # fmt: skip


def test_a_run_learns_as_one_without_graphs(tmp_path):
    """Until rounding lets two runs sample other tokens, which is after the first generation of four steps."""
    (tmp_path / "p").mkdir()
    prepared = run(tmp_path / "p", "download", "extract", "base", **RUN)
    histories = []
    for name, graphs in (("eager", "false"), ("graphed", "true")):
        folder = run(shutil.copytree(prepared, tmp_path / name), TRAIN, **RUN, train__cuda_graphs=graphs)
        histories.append(pd.read_csv(folder / "results/train/short/history.csv"))
    expected, found = histories
    for column in ("reward", "completion_tokens"):
        assert list(found[column][:4]) == list(expected[column][:4])
    assert list(found["grad_norm"][:4]) == pytest.approx(list(expected["grad_norm"][:4]), rel=0.1)
    assert found["reward"].mean() == pytest.approx(expected["reward"].mean(), abs=0.3)
