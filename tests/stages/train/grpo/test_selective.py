"""The update on packed and on padded batches: TRL's gradient, without the forward passes of rows that have none."""

from functools import partial

import pytest
import torch
from gsm8k_grpo.stages.train.grpo.objective import joined
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.padded import PaddedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.selective import SelectiveGRPOTrainer
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_update import COMPLETION_MASK, LORA, batch, gradients, settings, tokens_per_forward, with_fixed_completions

KINDS = {"packed": partial(PackedGRPOTrainer, compiled=False), "padded": PaddedGRPOTrainer}
VARIED, SECOND_VARIED, EQUAL = [0.7, -0.7, 1.2, -1.2], [0.0, 0.0, 1.2, -1.2], [0.0, 0.0, 0.0, 0.0]


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(params=[None, LORA], ids=["all weights", "adapters"])
def trainers(prepared, tmp_path, kind, request) -> tuple[ResumableGRPOTrainer, SelectiveGRPOTrainer]:
    """TRL's update and the packed or padded one, of the same model."""
    common = settings(prepared, tmp_path, request.param)
    return ResumableGRPOTrainer(**common), KINDS[kind](**common)


@pytest.mark.parametrize("advantages", [VARIED, SECOND_VARIED, EQUAL], ids=["varied", "second varied", "equal"])
def test_the_gradient_is_that_of_trl(trainers, advantages):
    of_trl, selective = (gradients(trainer, batch(advantages)) for trainer in trainers)
    assert of_trl.keys() == selective.keys()
    for name, gradient in of_trl.items():
        torch.testing.assert_close(selective[name], gradient, rtol=1e-3, atol=1e-6)
    assert any(gradient.any() for gradient in of_trl.values()) == (advantages != EQUAL)


# Tokens of a forward pass: prompts of 2 and 3 with completions of 2, 1, 3 and 2, or four rows of 3 + 3 with padding.
ALL = {"packed": [2 + 3 + 3 + 5], "padded": [4 * 6]}


def test_rows_without_advantage_are_not_computed(trainers, kind):
    _, selective = trainers
    assert tokens_per_forward(selective, batch(VARIED)) == ALL[kind]
    assert tokens_per_forward(selective, batch(SECOND_VARIED)) == {"packed": [3 + 5], "padded": [2 * 6]}[kind]
    assert tokens_per_forward(selective, batch(EQUAL)) == []


def test_columns_that_are_padding_in_every_computed_row_are_left_out(prepared, tmp_path):
    """The first group has a prompt of 2 and completions of 2 and 1 tokens, in a generation of 3 + 3 columns."""
    padded = PaddedGRPOTrainer(**settings(prepared, tmp_path))
    assert tokens_per_forward(padded, batch([0.7, -0.7, 0.0, 0.0])) == [2 * 4]


def test_padding_has_no_log_probability_whatever_it_is_computed_with(prepared, tmp_path):
    """A generation and a batch of it have padding of different lengths, and TRL divides their probabilities."""
    padded = PaddedGRPOTrainer(**settings(prepared, tmp_path))
    whole, mask = joined(batch(VARIED))
    logps, entropies, _ = padded._get_per_token_logps_and_entropies(padded.model, whole, mask, 3, compute_entropy=True)
    assert logps.shape == entropies.shape == (4, 3)
    assert (logps == 0).tolist() == (COMPLETION_MASK == 0).tolist()
    short, _, _ = padded._get_per_token_logps_and_entropies(padded.model, whole[:2], mask[:2], 3)
    torch.testing.assert_close(short, logps[:2], rtol=1e-5, atol=1e-6)


def test_without_a_forward_pass_the_weights_have_a_gradient_of_zero_rather_than_none(trainers):
    """So that the optimizer moves them by momentum, as it does after a computed gradient."""
    _, selective = trainers
    computed = gradients(selective, batch(EQUAL))
    assert all(gradient is not None and not gradient.any() for gradient in computed.values())


def test_every_row_is_computed_if_there_is_a_kl_term(trainers, kind):
    _, selective = trainers
    selective.beta = 0.1
    assert tokens_per_forward(selective, batch(EQUAL) | {"ref_per_token_logps": torch.zeros(4, 3)}) == ALL[kind]


def test_every_row_is_computed_if_there_are_no_old_probabilities(trainers, kind):
    _, selective = trainers
    assert tokens_per_forward(selective, batch(EQUAL) | {"old_per_token_logps": None}) == ALL[kind]


@pytest.mark.parametrize("advantages", [VARIED, SECOND_VARIED, EQUAL], ids=["varied", "second varied", "equal"])
def test_without_entropies_of_all_rows_the_log_has_the_surprisal_of_the_sampled_tokens(trainers, advantages):
    _, selective = trainers
    inputs = batch(advantages)
    gradients(selective, inputs)
    sampled = inputs["old_per_token_logps"][COMPLETION_MASK.bool()]
    assert selective._metrics["train"]["surprisal"] == [pytest.approx(-sampled.mean().item())]
    assert "entropy" not in selective._metrics["train"]


@pytest.mark.parametrize("rewarded", [[0, 1], [2], []], ids=["one group", "another", "none"])
def test_the_logged_entropy_is_that_of_all_rows_whichever_are_computed(prepared, tmp_path, kind, rewarded):
    """Two batches a generation, so that old log-probabilities are computed; the first update is at their weights."""
    entropies = []
    for of_kind in (ResumableGRPOTrainer, KINDS[kind]):
        common = settings(prepared, tmp_path, steps_per_generation=2)
        common["reward_funcs"] = lambda completions, **unused: [float(i in rewarded) for i in range(len(completions))]
        trainer = of_kind(**common)
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
def test_the_sampled_probabilities_are_the_old_ones_without_a_forward_pass_of_their_own(
    prepared, tmp_path, kind, lora, beta
):
    """Two batches per generation, so that TRL asks for old log-probabilities."""
    common, other = (settings(prepared, tmp_path, lora, steps_per_generation=2, beta=beta) for _ in range(2))
    of_trl, selective = ResumableGRPOTrainer(**other), KINDS[kind](**common, sampled=True)
    selective.generate_with(FixedRollouts(), corrected=False)
    tokens: list[int] = []
    embeddings = {id(model): model.get_input_embeddings() for model in (selective.model, selective.ref_model) if model}
    for layer in embeddings.values():
        layer.register_forward_hook(lambda module, args, result: tokens.append(args[0].numel()))
    prompts = [row for row in common["train_dataset"] for _ in range(2)]

    selective.model.train()
    first = selective._prepare_inputs(prompts)
    assert len(tokens) == (0 if beta == 0 else 2)  # the reference, once per batch
    assert ("ref_per_token_logps" in first) == (beta != 0)
    selective._step = 1
    second = selective._prepare_inputs(prompts)
    order = [ids - 21 for inputs in (first, second) for ids in inputs["completion_ids"][:, 0].tolist()]
    old = [row for inputs in (first, second) for row in inputs["old_per_token_logps"].tolist()]
    assert old == [[-1.0 - index, -2.0, -3.0] for index in order]
    assert sorted(order) == list(range(8))

    for inputs in (first, second):
        expected, computed = gradients(of_trl, inputs), gradients(selective, inputs)
        for name, gradient in expected.items():
            torch.testing.assert_close(computed[name], gradient, rtol=1e-3, atol=1e-6)
        assert any(gradient.any() for gradient in computed.values())


def test_the_old_probabilities_are_computed_if_the_sampled_ones_are_not_used(prepared, tmp_path, kind):
    common = settings(prepared, tmp_path, steps_per_generation=2)
    selective = KINDS[kind](**common)
    selective.generate_with(FixedRollouts(), corrected=True)
    selective.model.train()
    inputs = selective._prepare_inputs([row for row in common["train_dataset"] for _ in range(2)])
    ids, mask = (torch.cat([inputs[f"prompt_{kind}"], inputs[f"completion_{kind}"]], 1) for kind in ("ids", "mask"))
    with torch.no_grad():
        logps = ResumableGRPOTrainer._get_per_token_logps_and_entropies(selective, selective.model, ids, mask, 3)[0]
    torch.testing.assert_close(inputs["old_per_token_logps"], logps, rtol=1e-4, atol=1e-4)
