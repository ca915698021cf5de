"""Online DPO and PPO on the trainer of the sampling methods: gradients of their formulas, padded and packed."""

import pytest
import torch
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.padded import PaddedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from gsm8k_grpo.stages.train.online_dpo.objective import OnlineDPOObjective
from gsm8k_grpo.stages.train.ppo import value_head
from gsm8k_grpo.stages.train.ppo.objective import PPOObjective
from gsm8k_grpo.stages.train.ppo.values import logps_entropies_values
from packed_update import (
    COMPLETION_MASK,
    COMPLETIONS,
    LORA,
    PROMPT_MASK,
    PROMPTS,
    gradients,
    settings,
    tokens_per_forward,
)
from test_selective import FixedRollouts
from torch import Tensor
from torch.nn.functional import logsigmoid

SETTINGS = {"gamma": 1.0, "lam": 0.9, "kl_coef": 0.1, "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.5}
IDS, MASK = torch.cat([PROMPTS, COMPLETIONS], 1), torch.cat([PROMPT_MASK, COMPLETION_MASK], 1)
TOKENS = {
    "prompt_ids": PROMPTS, "prompt_mask": PROMPT_MASK, "completion_ids": COMPLETIONS,
    "completion_mask": COMPLETION_MASK,
}  # fmt: skip
REFERENCE = -5 - torch.arange(12.0).view(4, 3) / 7


def both(prepared, folder, objective, lora=None) -> tuple[PaddedGRPOTrainer, PackedGRPOTrainer]:
    """The padded and the packed trainer of the same weights."""
    one, other = (settings(prepared, folder, lora, beta=0.1) | {"objective": objective} for _ in range(2))
    return PaddedGRPOTrainer(**one), PackedGRPOTrainer(**other, compiled=False)


def straight(trainer: ResumableGRPOTrainer) -> tuple[Tensor, Tensor]:
    """(4, 3) log-probabilities of the completions and (4, 3, hidden) states before them, row by row and unpadded."""
    network = trainer.accelerator.unwrap_model(trainer.model)
    logps, states = [], []
    for ids, mask in zip(IDS, MASK, strict=True):
        kept, length = ids[mask.bool()], int(mask[3:].sum())
        result = network(input_ids=kept[None], output_hidden_states=True)
        predicted = result.logits[0, -length - 1 : -1].log_softmax(-1)
        row = predicted.gather(1, kept[-length:, None]).squeeze(1)
        logps.append(torch.nn.functional.pad(row, (0, 3 - length)))
        before = result.hidden_states[-1][0, -length - 1 : -1]
        states.append(torch.nn.functional.pad(before, (0, 0, 0, 3 - length)))
    return torch.stack(logps), torch.stack(states)


def of_formula(trainer: ResumableGRPOTrainer, loss: Tensor) -> dict[str, Tensor]:
    trainer.model.zero_grad()
    loss.backward()
    return {name: weight.grad for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert any(gradient.any() for gradient in one.values())
    for name, gradient in one.items():
        rounding = 1e-5 * gradient.abs().max().item()
        torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=rounding)


# Online DPO: each prompt has a row of the better and the worse completion


def pairs(tied: list[bool]) -> dict[str, Tensor]:
    rows = TOKENS | {"ref_per_token_logps": REFERENCE}
    return {name: values.view(2, 2, -1) for name, values in rows.items()} | {"tied": torch.tensor(tied)}


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapters"])
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_the_gradient_of_online_dpo_is_that_of_its_formula(prepared, tmp_path, loss, lora):
    padded, packed = both(prepared, tmp_path, OnlineDPOObjective(loss, 0.1), lora)
    ratios = ((straight(padded)[0] - REFERENCE) * COMPLETION_MASK).sum(1)
    margin = torch.stack([ratios[0] - ratios[1], ratios[2] - ratios[3]])
    losses = -logsigmoid(0.1 * margin) if loss == "sigmoid" else (margin - 5) ** 2
    expected = of_formula(padded, losses.mean())
    for trainer in (padded, packed):
        assert_equal(expected, gradients(trainer, pairs([False, False])))


def test_a_tied_prompt_has_no_gradient_and_is_counted(prepared, tmp_path):
    padded, packed = both(prepared, tmp_path, OnlineDPOObjective("sigmoid", 0.1))
    ratios = ((straight(padded)[0] - REFERENCE) * COMPLETION_MASK).sum(1)
    expected = of_formula(padded, -logsigmoid(0.1 * (ratios[2] - ratios[3])) / 2)
    for trainer in (padded, packed):
        assert_equal(expected, gradients(trainer, pairs([True, False])))
        assert trainer._metrics["train"]["tied_share"] == [0.5]
        assert not any(gradient.any() for gradient in gradients(trainer, pairs([True, True])).values())


def test_of_a_generation_only_the_pairs_are_computed(prepared, tmp_path):
    """Eight completions of each of two prompts; the rewards in turn are 0 and 1."""
    common = settings(prepared, tmp_path, num_generations=8, per_device_train_batch_size=16, beta=0.1)
    trainer = PackedGRPOTrainer(**common, objective=OnlineDPOObjective("sigmoid", 0.1), compiled=False)
    trainer.generate_with(FixedRollouts(), corrected=True)
    trainer.model.train()
    rows = [row for row in list(common["train_dataset"])[:2] for _ in range(8)]
    batch = trainer._prepare_inputs(rows)
    # FixedRollouts begins the completion of each row with another token, counting from 21.
    assert batch["completion_ids"][:, :, 0].tolist() == [[22, 21], [30, 29]]
    assert batch["tied"].tolist() == [False, False]
    (tokens,) = tokens_per_forward(trainer, batch)
    assert tokens == int(batch["prompt_mask"][:, 0].sum()) + 4 * 3


# PPO


def tokens_of_ppo() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return TOKENS | {
        "old_logps": -5 - torch.rand(4, 3), "old_values": torch.rand(4, 3), "returns": 2 * torch.rand(4, 3),
        "token_advantages": torch.randn(4, 3) * COMPLETION_MASK, "ref_per_token_logps": REFERENCE,
        "num_items_in_batch": COMPLETION_MASK.sum(),
    }  # fmt: skip


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapters"])
def test_the_gradient_of_ppo_is_that_of_its_formula(prepared, tmp_path, lora):
    padded, packed = both(prepared, tmp_path, PPOObjective(**SETTINGS), lora)
    inputs, mask = tokens_of_ppo(), COMPLETION_MASK
    for trainer in (padded, packed):
        weight = value_head.of(trainer).linear.weight
        weight.data = torch.linspace(-0.1, 0.1, weight.numel()).view_as(weight)
    logps, states = straight(padded)
    values = value_head.of(padded)(states)
    ratio, advantages = (logps - inputs["old_logps"]).exp(), inputs["token_advantages"]
    surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    old = inputs["old_values"]
    errors = [(each - inputs["returns"]) ** 2 for each in (values, old + (values - old).clamp(-0.2, 0.2))]
    loss = ((-surrogate + 0.5 * 0.5 * torch.max(*errors)) * mask).sum() / mask.sum()
    expected = of_formula(padded, loss)
    assert expected["value_head.linear.weight"].any()
    for trainer in (padded, packed):
        assert_equal(expected, gradients(trainer, inputs))


def test_the_values_of_completions_do_not_depend_on_the_longest_of_the_generation(prepared, tmp_path):
    longer = TOKENS | {name: torch.nn.functional.pad(TOKENS[name], (0, 2)) for name in TOKENS if "completion" in name}
    for trainer in both(prepared, tmp_path, PPOObjective(**SETTINGS)):
        head = value_head.of(trainer)
        torch.nn.init.normal_(head.linear.weight)
        expected, computed = (
            logps_entropies_values(trainer, trainer.model, rows, head)[2] for rows in (TOKENS, longer)
        )
        torch.testing.assert_close(computed[:, :3], expected, rtol=1e-4, atol=1e-5)
        assert not computed[:, 3:].any()


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_a_generation_of_ppo_has_its_values_returns_and_advantages(prepared, tmp_path, packed):
    """The first values are the mean total, 0.5; with kl_coef 0.1 and an unchanged policy no token pays anything."""
    common = settings(prepared, tmp_path, LORA, beta=0.1) | {"objective": PPOObjective(**SETTINGS)}
    trainer = PackedGRPOTrainer(**common, compiled=False) if packed else PaddedGRPOTrainer(**common)
    trainer.generate_with(FixedRollouts(), corrected=True)
    trainer.model.train()
    batch = trainer._prepare_inputs([row for row in list(common["train_dataset"])[:2] for _ in range(2)])
    torch.testing.assert_close(batch["old_values"], torch.full((4, 3), 0.5))
    torch.testing.assert_close(batch["ref_per_token_logps"], batch["old_logps"])
    ends = (batch["returns"][:, -1]).sort().values
    torch.testing.assert_close(ends, torch.tensor([0.0, 0.0, 1.0, 1.0]))
    advantages = batch["token_advantages"]
    torch.testing.assert_close(advantages.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(advantages[:, 0] / advantages[:, 2], torch.full((4,), 0.9**2))
    assert batch["importance"].max() <= 3.0  # TRL's limit, as vLLM's probabilities are not the trainer's here


def test_with_sampled_probabilities_the_ratio_is_to_those_of_vllm(prepared, tmp_path):
    common = settings(prepared, tmp_path) | {"objective": PPOObjective(**SETTINGS | {"kl_coef": 0.0}, sampled=True)}
    trainer = PackedGRPOTrainer(**common, compiled=False, sampled=True)
    trainer.generate_with(FixedRollouts(), corrected=False)
    trainer.model.train()
    batch = trainer._prepare_inputs([row for row in list(common["train_dataset"])[:2] for _ in range(2)])
    assert batch["old_logps"].tolist() == [[-1.0 - index, -2.0, -3.0] for index in range(4)]
    assert "importance" not in batch
    assert "ref_per_token_logps" not in batch
