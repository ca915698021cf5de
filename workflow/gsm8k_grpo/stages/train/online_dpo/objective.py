"""The objective of online DPO on the completions that the trainer samples.

TRL's own trainer is experimental.  It samples exactly two completions of each prompt, makes a pair of them even if
their rewards are equal, so that the preference is noise, and generates again for every micro-batch.  Here a pair is the
best and the worst of `num_generations` completions, equal rewards make no pair, and generation, packed batches and
checkpoints are those of the other methods.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gsm8k_grpo.stages.train import parallel
from gsm8k_grpo.stages.train.grpo.objective import COMPLETION, Objective, completion_logps, masked_mean, share_of_step
from gsm8k_grpo.stages.train.grpo.references import reference_logps
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from gsm8k_grpo.stages.train.online_dpo.loss import Preference, margins, pair_losses
from gsm8k_grpo.stages.train.online_dpo.pairs import pairs_of

IN_A_PAIR = 2  # the completions of a prompt that an update computes: the better one, then the worse one


@dataclass(frozen=True)
class OnlineDPOObjective(Objective):
    """The best and the worst completion of each prompt, and the loss of this pair.

    The other completions are sampled and rewarded, and then left out, so an update computes two completions per prompt.
    A prompt whose completions all have the same total has a loss of zero.

    Attributes:
        loss_of_pairs: the name of the loss, see `loss.pair_losses`.
        beta: how strongly the policy is held to its reference.
    """

    corrects_for_vllm: ClassVar[bool] = False  # a preference needs no ratio to the probabilities sampled with
    needs_logps: ClassVar[bool] = False

    loss_of_pairs: Preference
    beta: float

    def group_size(self, trainer: ResumableGRPOTrainer) -> int:
        return IN_A_PAIR

    def scored(self, trainer: ResumableGRPOTrainer, generated: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pairs as (prompts, 2, length) tensors, the better completion first; `tied` is (prompts,).

        A row must be a whole prompt, since TRL shuffles the rows of a generation before it splits them into batches.
        """
        pairs = pairs_of(trainer.weighted_rewards(), trainer.num_generations)
        rows = torch.stack([pairs.best, pairs.worst], 1).flatten()
        of_pairs = {name: generated[name][rows] for name in COMPLETION}
        of_pairs["ref_per_token_logps"] = reference_logps(trainer, of_pairs)
        by_prompt = {name: values.view(-1, IN_A_PAIR, *values.shape[1:]) for name, values in of_pairs.items()}
        return by_prompt | {"tied": pairs.tied}

    def loss(self, trainer: ResumableGRPOTrainer, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """The mean over the prompts of the step; tied prompts count too, so that it does not depend on the batches."""
        tied = inputs["tied"]
        rows = {name: values.flatten(0, 1) for name, values in inputs.items() if name != "tied"}
        logps, entropies, balance = completion_logps(trainer, model, rows)
        reference, mask = rows["ref_per_token_logps"], rows["completion_mask"]
        preference = margins(logps, reference, mask)
        losses = pair_losses(preference, self.beta, self.loss_of_pairs)
        self._log(trainer, logps.detach() - reference, entropies, mask, preference.detach(), tied)
        return share_of_step(trainer, losses.masked_fill(tied, 0.0).mean(), balance)

    def _log(
        self, trainer: ResumableGRPOTrainer, ratios: Tensor, entropies: Tensor, mask: Tensor, preference: Tensor,
        tied: Tensor,
    ) -> None:  # fmt: skip
        """Log the mean entropy and KL over the tokens of the computed completions, and the figures of pairs, if any."""
        figures = {
            "entropy": masked_mean(entropies, mask),
            "kl": masked_mean((-ratios).exp() + ratios - 1, mask),
            "tied_share": parallel.mean(tied.float().mean().item()),
        }
        of_pairs = preference[~tied]
        pairs = parallel.total(len(of_pairs))
        margin, preferred = parallel.total(of_pairs.sum().item()), parallel.total((of_pairs > 0).sum().item())
        if pairs:
            figures |= {"margin": margin / pairs, "preferred_share": preferred / pairs}
        for name, figure in figures.items():
            trainer._metrics["train"][name].append(figure)
