"""Each loss and option has the gradient of its formula, padded and packed, on two prompts with two completions each."""

import pytest
import torch
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.rloo import RLOOObjective
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_update import (
    COMPLETION_MASK,
    COMPLETIONS,
    PROMPT_MASK,
    PROMPTS,
    batch,
    gradients,
    settings,
    with_fixed_completions,
)

LOW, HIGH, LONGEST = 0.2, 0.28, 3  # epsilon, epsilon_high, max_completion_length
COMMON = {"epsilon": LOW, "epsilon_high": HIGH}
ADVANTAGES = [0.9, -0.7, -1.2, 1.1]
PACKED = {"compiled": False, "sampled": False}


class Completion:
    """One completion in the notation of the papers.

    Attributes:
        logps, old: (tokens,) log-probabilities now, with a gradient, and when it was sampled.
        ratio: (tokens,) pi / pi_old of each token.
        whole: that of the completion, the product of its tokens' ratios.
        mean_ratio: their geometric mean.
        entropies: (tokens,) entropies of the distributions, with a gradient.
        advantage: A.
    """

    def __init__(self, logits, ids, old, reference, advantage):
        distribution = torch.log_softmax(logits, -1)
        self.logps = distribution.gather(-1, ids[:, None])[:, 0]
        self.entropies = -(distribution.exp() * distribution).sum(-1)
        self.old, self.reference, self.advantage = old, reference, advantage
        self.ratio = (self.logps - old).exp()
        self.whole = self.ratio.prod()
        self.mean_ratio = self.whole ** (1 / len(ids))

    def clipped(self, ratio, limit=float("inf")):
        """-min(ratio A, clip(ratio) A), PPO's loss; `limit` is that of two-sided clipping."""
        bounded = ratio.clamp(1 - LOW, 1 + HIGH) * self.advantage
        return -torch.minimum(ratio.clamp(max=limit) * self.advantage, bounded)


def per_completion(losses):
    return torch.stack([loss.mean() for loss in losses]).mean()


def per_token(losses):
    return torch.cat(losses).mean()


def sapo(one):
    temperature = 1.0 if one.advantage > 0 else 1.05
    return -4 / temperature * torch.sigmoid(temperature * (one.ratio - 1)) * one.advantage


def vespo(one):
    power, decay = (2.0, 3.0) if one.advantage >= 0 else (3.0, 2.0)
    weight = one.whole.detach()
    return -(decay + power * weight.log() - decay * weight).exp() * one.advantage * one.logps


def kl(one):
    """The estimate k3 of each token, times the ratio so that its gradient is unbiased (DeepSeek-V3.2)."""
    difference = one.reference - one.logps
    return (difference.exp() - difference - 1) * one.ratio


def entropies(group):
    return torch.cat([one.entropies for one in group])


def uncertain(group):
    """For each completion, whether a token is among the half with the highest entropy."""
    threshold = entropies(group).detach().quantile(0.5)
    return [one.entropies.detach() >= threshold for one in group]


FORMULAS = {
    "grpo": ({"loss_type": "grpo"}, lambda group: per_completion([one.clipped(one.ratio) for one in group])),
    "bnpo": ({"loss_type": "bnpo"}, lambda group: per_token([one.clipped(one.ratio) for one in group])),
    "dapo": ({"loss_type": "dapo"}, lambda group: per_token([one.clipped(one.ratio) for one in group])),
    "dr_grpo": (
        {"loss_type": "dr_grpo"},
        lambda group: sum(one.clipped(one.ratio).sum() for one in group) / (len(group) * LONGEST),
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.5},
        lambda group: per_token([-one.ratio.detach().clamp(max=1.5) * one.advantage * one.logps for one in group]),
    ),
    "sapo": ({"loss_type": "sapo"}, lambda group: per_completion([sapo(one) for one in group])),
    "vespo": ({"loss_type": "vespo"}, lambda group: per_token([vespo(one) for one in group])),
    "luspo": (
        {"loss_type": "luspo", "importance_sampling_level": "sequence"},
        # TRL adds up one value a token of the batch's mask, so a completion weighs as much as it has tokens.
        lambda group: sum(len(one.logps) * one.clipped(one.mean_ratio) for one in group) / len(group),
    ),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        lambda group: sum(one.clipped(one.mean_ratio) for one in group) / len(group),
    ),
    "delta": (
        {"loss_type": "dapo", "delta": 1.3},
        lambda group: per_token([one.clipped(one.ratio, 1.3) for one in group]),
    ),
    "beta": (
        {"loss_type": "dapo", "beta": 0.1},
        lambda group: per_token([one.clipped(one.ratio) + 0.1 * kl(one) for one in group]),
    ),
    "entropy_coef": (
        {"loss_type": "dapo", "entropy_coef": 0.3},
        lambda group: per_token([one.clipped(one.ratio) for one in group]) - 0.3 * entropies(group).mean(),
    ),
    "top_entropy_quantile": (
        {"loss_type": "dapo", "top_entropy_quantile": 0.5},
        lambda group: per_token(
            [one.clipped(one.ratio) * kept for one, kept in zip(group, uncertain(group), strict=True)]
        ),
    ),
    "rloo": ({"objective": RLOOObjective()}, lambda group: sum(one.clipped(one.whole) for one in group) / len(group)),
}


def logits_of(model, row):
    """(completion tokens, vocabulary) logits of one completion behind its prompt, without any padding."""
    prompt, ids = PROMPTS[row][PROMPT_MASK[row].bool()], COMPLETIONS[row][COMPLETION_MASK[row].bool()]
    return model(torch.cat([prompt, ids])[None]).logits[0, len(prompt) - 1 : -1], ids


def inputs_near(model):
    """A batch whose old log-probabilities and reference's are near the model's: ratios on both sides of the clips."""
    torch.manual_seed(5)
    old, reference = torch.zeros(4, LONGEST), torch.zeros(4, LONGEST)
    with torch.no_grad():
        for row in range(4):
            logits, ids = logits_of(model, row)
            logps = torch.log_softmax(logits, -1).gather(-1, ids[:, None])[:, 0]
            old[row, : len(ids)] = logps + 0.4 * torch.randn(len(ids))
            reference[row, : len(ids)] = logps + 0.4 * torch.randn(len(ids))
    return batch(ADVANTAGES) | {"old_per_token_logps": old, "ref_per_token_logps": reference}


def group_of(model, inputs):
    group = []
    for row in range(4):
        logits, ids = logits_of(model, row)
        old, reference = (inputs[f"{name}_per_token_logps"][row, : len(ids)] for name in ("old", "ref"))
        group.append(Completion(logits, ids, old, reference, inputs["advantages"][row]))
    return group


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("kind", [ResumableGRPOTrainer, PackedGRPOTrainer], ids=["padded", "packed"])
def test_the_gradient_is_that_of_the_formula(prepared, tmp_path, kind, name):
    options, formula = FORMULAS[name]
    objective = {"objective": options["objective"]} if "objective" in options else {}
    of_trl = COMMON | {key: value for key, value in options.items() if key != "objective"}
    packed = PACKED if kind is PackedGRPOTrainer else {}
    trainer = kind(**settings(prepared, tmp_path, **of_trl), **objective, **packed)
    inputs = inputs_near(trainer.model)

    computed = {key: value.clone() for key, value in gradients(trainer, inputs).items()}
    trainer.model.zero_grad()
    formula(group_of(trainer.model, inputs)).backward()
    for weight, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(computed[weight], parameter.grad, rtol=2e-3, atol=2e-6)
    assert any(gradient.any() for gradient in computed.values())


@pytest.mark.parametrize("name", ["entropy_coef", "top_entropy_quantile"])
def test_an_option_that_needs_entropies_has_exact_ones_of_all_groups(prepared, tmp_path, name):
    """Also of a group without advantage, which packed batches otherwise leave out."""
    logged = []
    for kind, packed in ((ResumableGRPOTrainer, {}), (PackedGRPOTrainer, PACKED)):
        trainer = kind(**settings(prepared, tmp_path, **COMMON | FORMULAS[name][0]), **packed)
        inputs = inputs_near(trainer.model) | {"advantages": torch.tensor([0.0, 0.0, 1.2, -1.2])}
        gradients(trainer, inputs)
        logged.append(trainer._metrics["train"]["entropy"])
        exact = entropies(group_of(trainer.model, inputs)).mean().item()
        assert logged[-1] == [pytest.approx(exact, rel=1e-5)]
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)


# What a generation gives to the loss


def generation_of(kind, common, options=None):
    """The trainer and its tensors of two prompts with two completions each, of 1, 2, 3 and 1 tokens."""
    trainer = kind(**common, **(options or {}), **(PACKED if kind is PackedGRPOTrainer else {}))
    with_fixed_completions(trainer)
    trainer._stop_tokens = [23]  # the third completion ends in it; the tokenizer's end token is another one
    trainer.model.train()
    inputs = trainer._generate_and_score_completions([row for row in common["train_dataset"] for _ in range(2)][:4])
    return trainer, {key: value for key, value in inputs.items() if value is not None}


def test_completions_without_any_of_the_stop_tokens_are_left_out_of_the_loss(prepared, tmp_path):
    computed = []
    for kind in (ResumableGRPOTrainer, PackedGRPOTrainer):
        common = settings(prepared, tmp_path, mask_truncated_completions=True)
        trainer, inputs = generation_of(kind, common)
        assert inputs["completion_mask"].tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0]]
        assert inputs["num_items_in_batch"] == 3
        assert inputs["advantages"].tolist() == pytest.approx([-0.7, 0.7, -0.7, 0.7], abs=0.01)  # of all four
        computed.append({name: value.clone() for name, value in gradients(trainer, inputs).items()})

    prompt = inputs["prompt_ids"][2][inputs["prompt_mask"][2].bool()]
    trainer.model.zero_grad()
    logits = trainer.model(torch.cat([prompt, inputs["completion_ids"][2]])[None]).logits[0, len(prompt) - 1 : -1]
    logps = torch.log_softmax(logits, -1).gather(-1, inputs["completion_ids"][2][:, None])
    (-inputs["advantages"][2] * logps.mean()).backward()
    for name, parameter in trainer.model.named_parameters():
        for gradient in computed:
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize("kind", [ResumableGRPOTrainer, PackedGRPOTrainer], ids=["padded", "packed"])
def test_gdpo_normalizes_each_reward_before_the_sum(prepared, tmp_path, kind):
    rewards = torch.tensor([[1.0, 0.0], [0.0, 100.0], [3.0, 5.0], [0.0, 5.0]])
    common = settings(
        prepared, tmp_path, multi_objective_aggregation="normalize_then_sum", reward_weights=[1.0, 0.5]
    )  # fmt: skip
    common["reward_funcs"] = [lambda completions, **unused: rewards[:, 0].tolist(),
                              lambda completions, **unused: rewards[:, 1].tolist()]  # fmt: skip
    _, inputs = generation_of(kind, common)
    # Two completions: whatever the size of a difference, each reward becomes 1 and -1 over the square root of 2.
    half = 2**-0.5
    sums = torch.tensor([half - 0.5 * half, -half + 0.5 * half, half, -half])
    torch.testing.assert_close(inputs["advantages"], (sums - sums.mean()) / sums.std(), rtol=1e-3, atol=1e-3)


def test_training_samples_as_configured(prepared, tmp_path):
    trainer = ResumableGRPOTrainer(**settings(prepared, tmp_path, top_p=0.9, top_k=7, min_p=0.05))
    config = trainer.generation_config
    assert (config.top_p, config.top_k, config.min_p) == (0.9, 7, 0.05)
