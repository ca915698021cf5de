"""Training on padded batches, without the columns that are padding in every row.

TRL pads a generation to its longest prompt and its longest completion, and then splits it into batches.  One long
completion would make every batch that long, although most batches hold no such completion.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from gsm8k_grpo.stages.train.grpo.selective import SelectiveGRPOTrainer


class PaddedGRPOTrainer(SelectiveGRPOTrainer):
    """GRPOTrainer whose forward passes leave out the columns that are padding in all of their rows."""

    def needs_all_rows(self) -> bool:
        return super().needs_all_rows() or self.aux_loss_enabled

    def logps_and_entropies(
        self, model: nn.Module, ids: Tensor, mask: Tensor, length: int, rows_at_once: int | None, **options: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        of_prompts, of_completions = mask.tensor_split([-length], 1)
        first, kept = (
            of_prompts.shape[1] - longest(of_prompts),
            longest(of_completions),
        )  # prompts are padded on the left
        ids, mask = (tensor[:, first : of_prompts.shape[1] + kept] for tensor in (ids, mask))
        logps, entropies, balance = super().logps_and_entropies(model, ids, mask, kept, rows_at_once, **options)
        # Padding gets the same log-probability in every pass.  Otherwise the ratio of two passes could be infinite.
        logps = pad(logps.masked_fill(mask[:, -kept:] == 0, 0.0), (0, length - kept))
        return logps, None if entropies is None else pad(entropies, (0, length - kept)), balance


def longest(mask: Tensor) -> int:
    """The number of columns that the longest prompt or completion of a mask has, at least one."""
    return max(1, int(mask.any(0).sum()))
