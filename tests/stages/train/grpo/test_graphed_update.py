"""The update of every sampling method with `train.cuda_graphs`; on a CPU `tape.recorded` takes the place of graphs."""

import shutil

import pandas as pd
import pytest
import tape
import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.stages.train.grpo.cuda_graphs import graphed
from gsm8k_grpo.stages.train.grpo.objective import GRPO
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.rloo import RLOOObjective
from gsm8k_grpo.stages.train.online_dpo.objective import OnlineDPOObjective
from gsm8k_grpo.stages.train.ppo.objective import PPOObjective
from gsm8k_grpo.stages.train.resumable import arguments
from packed_update import LORA, batch, gradients, settings, tokens_per_forward, with_fixed_completions
from small_run import TRAIN, assert_same_run, killed_and_resumed, run
from test_own_losses import SETTINGS, pairs, tokens_of_ppo
from test_selective import EQUAL, SECOND_VARIED, VARIED

# Two prompts, then one: groups without advantage are left out, and the batch is smaller.
BATCHES = {
    "grpo": (GRPO, [batch(VARIED), batch(SECOND_VARIED), batch(EQUAL)]),
    "rloo": (RLOOObjective(), [batch(VARIED), batch(SECOND_VARIED)]),
    "online_dpo": (OnlineDPOObjective("sigmoid", 0.1), [pairs([False, False])]),
    "ppo": (PPOObjective(**SETTINGS), [tokens_of_ppo()]),
}
PADDED = 64  # tokens of a small batch with its padding


def trainer(prepared, folder, **options) -> PackedGRPOTrainer:
    lora, objective = options.pop("lora", None), options.pop("objective", GRPO)
    common = settings(prepared, folder, lora, beta=options.pop("beta", 0.0), steps_per_generation=2)
    return PackedGRPOTrainer(**common, objective=objective, compiled=False, sampled=False, **options)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapters"])
@pytest.mark.parametrize("method", BATCHES)
def test_the_gradient_is_that_of_the_update_without_graphs(prepared, tmp_path, method, lora, monkeypatch):
    """The first batch of a size, the one that captures, and those that replay."""
    monkeypatch.setattr(graphed, "recorded", tape.recorded)
    objective, batches = BATCHES[method]
    options = {"lora": lora, "objective": objective, "beta": 0.1 * (method in ("online_dpo", "ppo"))}
    eager, replayed = (trainer(prepared, tmp_path, **options, graphs=graphs) for graphs in (False, True))
    for inputs in batches * 3:
        expected = gradients(eager, inputs)
        computed = gradients(replayed, inputs)
        assert expected.keys() == computed.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(computed[name], gradient, rtol=1e-3, atol=1e-6)
    assert len(replayed._graphed._graphs) == 1


def test_only_passes_with_a_gradient_are_padded(prepared, tmp_path):
    """Not those of the old log-probabilities."""
    of = trainer(prepared, tmp_path, graphs=True)
    with_fixed_completions(of)
    of.model.train()
    lengths: list[int] = []
    embeddings = of.model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda module, args, result: lengths.append(args[0].numel()))
    of._generate_and_score_completions([row for row in list(of.train_dataset)[:2] for _ in range(2)])
    hook.remove()
    assert len(lengths) == 1
    assert lengths[0] % PADDED
    assert tokens_per_forward(of, batch(VARIED)) == [PADDED]


@pytest.mark.parametrize("graphs", [False, True])
def test_activations_are_recomputed_without_the_state_of_the_random_numbers_which_a_graph_cannot_save(root, graphs):
    params = load(root / "params.yaml", {"train.share_prompts": True, "train.cuda_graphs": graphs})
    found = arguments("short", params, root, 0.1)["gradient_checkpointing_kwargs"]
    assert found == {"use_reentrant": False} | ({"preserve_rng_state": False} if graphs else {})


@pytest.fixture(scope="module")
def packed_run(prepared, tmp_path_factory):
    return run(shutil.copytree(prepared, tmp_path_factory.mktemp("packed") / "p"), TRAIN, train__share_prompts="true")


GRAPHS = {"train__share_prompts": "true", "train__cuda_graphs": "true"}


def test_a_run_without_a_gpu_learns_the_same_and_resumes(prepared, packed_run, tmp_path):
    whole, resumed = (shutil.copytree(prepared, tmp_path / name) for name in ("whole", "resumed"))
    run(whole, TRAIN, **GRAPHS)
    columns = ["loss", "grad_norm", "reward", "entropy", "completion_tokens"]
    ours, expected = (pd.read_csv(one / "results/train/short/history.csv")[columns] for one in (whole, packed_run))
    pd.testing.assert_frame_equal(ours, expected, rtol=1e-3, atol=1e-5)
    killed_and_resumed(resumed, 8, **GRAPHS)
    assert_same_run(resumed, whole)
