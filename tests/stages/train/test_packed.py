"""The update on packed batches: TRL's gradient, without the forward passes of groups that have none."""

import pytest
import torch
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_update import COMPLETION_MASK, LORA, batch, gradients, settings, tokens_per_forward, with_fixed_completions

VARIED, SECOND_VARIED, EQUAL = [0.7, -0.7, 1.2, -1.2], [0.0, 0.0, 1.2, -1.2], [0.0, 0.0, 0.0, 0.0]


@pytest.fixture(params=[None, LORA], ids=["all weights", "adapters"])
def trainers(prepared, tmp_path, request) -> tuple[ResumableGRPOTrainer, PackedGRPOTrainer]:
    """TRL's update and the packed one, of the same model."""
    common = settings(prepared, tmp_path, request.param)
    return ResumableGRPOTrainer(**common), PackedGRPOTrainer(**common, compiled=False, sampled=False)


@pytest.mark.parametrize("advantages", [VARIED, SECOND_VARIED, EQUAL], ids=["varied", "second varied", "equal"])
def test_the_gradient_is_that_of_trl(trainers, advantages):
    of_trl, packed = (gradients(trainer, batch(advantages)) for trainer in trainers)
    assert of_trl.keys() == packed.keys()
    for name, gradient in of_trl.items():
        torch.testing.assert_close(packed[name], gradient, rtol=1e-3, atol=1e-6)
    assert any(gradient.any() for gradient in of_trl.values()) == (advantages != EQUAL)


def test_a_group_without_advantage_is_not_computed(trainers):
    _, packed = trainers
    assert tokens_per_forward(packed, batch(VARIED)) == [2 + 3 + 3 + 5]
    assert tokens_per_forward(packed, batch(SECOND_VARIED)) == [3 + 5]
    assert tokens_per_forward(packed, batch(EQUAL)) == []


def test_without_a_forward_pass_the_weights_have_a_gradient_of_zero_rather_than_none(trainers):
    """So that the optimizer moves them by momentum, as it does after a computed gradient."""
    _, packed = trainers
    computed = gradients(packed, batch(EQUAL))
    assert all(gradient is not None and not gradient.any() for gradient in computed.values())


def test_every_group_is_computed_if_there_is_a_kl_term(trainers):
    _, packed = trainers
    packed.beta = 0.1
    assert tokens_per_forward(packed, batch(EQUAL) | {"ref_per_token_logps": torch.zeros(4, 3)}) == [2 + 3 + 3 + 5]


def test_every_group_is_computed_if_there_are_no_old_probabilities(trainers):
    _, packed = trainers
    assert tokens_per_forward(packed, batch(EQUAL) | {"old_per_token_logps": None}) == [2 + 3 + 3 + 5]


@pytest.mark.parametrize("advantages", [VARIED, SECOND_VARIED, EQUAL], ids=["varied", "second varied", "equal"])
def test_without_entropies_of_all_groups_the_log_has_the_surprisal_of_the_sampled_tokens(trainers, advantages):
    _, packed = trainers
    inputs = batch(advantages)
    gradients(packed, inputs)
    sampled = inputs["old_per_token_logps"][COMPLETION_MASK.bool()]
    assert packed._metrics["train"]["surprisal"] == [pytest.approx(-sampled.mean().item())]
    assert "entropy" not in packed._metrics["train"]


@pytest.mark.parametrize("rewarded", [[0, 1], [2], []], ids=["one group", "another", "none"])
def test_the_logged_entropy_is_that_of_all_groups_whichever_are_computed(prepared, tmp_path, rewarded):
    """Two batches a generation, so that old log-probabilities are computed; the first update is at their weights."""
    entropies = []
    for kind, options in ((ResumableGRPOTrainer, {}), (PackedGRPOTrainer, {"compiled": False, "sampled": False})):
        common = settings(prepared, tmp_path, steps_per_generation=2)
        common["reward_funcs"] = lambda completions, **unused: [float(i in rewarded) for i in range(len(completions))]
        trainer = kind(**common, **options)
        with_fixed_completions(trainer)
        trainer.model.train()
        inputs = trainer._generate_and_score_completions([row for row in common["train_dataset"] for _ in range(2)])
        gradients(trainer, {key: value for key, value in inputs.items() if value is not None})
        entropies.append(trainer._metrics["train"]["entropy"])
    assert entropies[1] == pytest.approx(entropies[0], rel=1e-5)


# Old log-probabilities from the engine that sampled


class FixedRollouts:
    """In the place of vLLM: one fixed completion per prompt, with log-probabilities that no model gave."""

    def sync_weights(self) -> None:
        pass

    def generate(self, prompts, images, num_generations, profiler=None):
        completions = [[21 + index, 22, 23] for index in range(len(prompts))]
        logprobs = [[[-1.0 - index], [-2.0], [-3.0]] for index in range(len(prompts))]
        return prompts, completions, logprobs, None


@pytest.mark.parametrize("beta", [0.0, 0.04], ids=["without reference", "with reference"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapters"])
def test_the_sampled_probabilities_are_the_old_ones_without_a_forward_pass_of_their_own(prepared, tmp_path, lora, beta):
    """Two batches per generation, so that TRL asks for old log-probabilities."""
    common, other = (settings(prepared, tmp_path, lora, steps_per_generation=2, beta=beta) for _ in range(2))
    of_trl, packed = ResumableGRPOTrainer(**other), PackedGRPOTrainer(**common, compiled=False, sampled=True)
    packed.generate_with(FixedRollouts(), corrected=False)
    tokens: list[int] = []
    embeddings = {id(model): model.get_input_embeddings() for model in (packed.model, packed.ref_model) if model}
    for layer in embeddings.values():
        layer.register_forward_hook(lambda module, args, result: tokens.append(args[0].numel()))
    prompts = [row for row in common["train_dataset"] for _ in range(2)]

    packed.model.train()
    first = packed._prepare_inputs(prompts)
    assert len(tokens) == (0 if beta == 0 else 2)  # the reference, once per batch
    assert first["old_per_token_logps"].tolist() == [[-1.0 - index, -2.0, -3.0] for index in range(4)]
    assert ("ref_per_token_logps" in first) == (beta != 0)
    packed._step = 1
    second = packed._prepare_inputs(prompts)
    assert second["old_per_token_logps"][:, 0].tolist() == [-5.0, -6.0, -7.0, -8.0]

    for inputs in (first, second):
        expected, computed = gradients(of_trl, inputs), gradients(packed, inputs)
        for name, gradient in expected.items():
            torch.testing.assert_close(computed[name], gradient, rtol=1e-3, atol=1e-6)
        assert any(gradient.any() for gradient in computed.values())


def test_the_old_probabilities_are_computed_if_the_sampled_ones_are_not_used(prepared, tmp_path):
    common = settings(prepared, tmp_path, steps_per_generation=2)
    packed = PackedGRPOTrainer(**common, compiled=False, sampled=False)
    packed.generate_with(FixedRollouts(), corrected=True)
    packed.model.train()
    inputs = packed._prepare_inputs([row for row in common["train_dataset"] for _ in range(2)])
    ids, mask = (torch.cat([inputs[f"prompt_{kind}"], inputs[f"completion_{kind}"]], 1) for kind in ("ids", "mask"))
    with torch.no_grad():
        logps = ResumableGRPOTrainer._get_per_token_logps_and_entropies(packed, packed.model, ids, mask, 3)[0]
    torch.testing.assert_close(inputs["old_per_token_logps"], logps, rtol=1e-4, atol=1e-4)
