"""Each loss and option has the gradient of its formula, padded and packed, on two prompts with two completions each."""

import pytest
import torch
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.rloo import RLOOObjective
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_update import COMPLETION_MASK, COMPLETIONS, PROMPT_MASK, PROMPTS, batch, gradients, settings

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
