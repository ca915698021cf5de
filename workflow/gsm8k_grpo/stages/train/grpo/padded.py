"""Training on padded batches, without the columns that are padding in every row.

TRL pads a generation to its longest prompt and its longest completion, and then splits it into batches.  One long
completion would make all batches as long, although most of them have none.
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
        # The same value for every padding: else its ratio to that of another pass could be infinite.
        logps = pad(logps.masked_fill(mask[:, -kept:] == 0, 0.0), (0, length - kept))
        return logps, None if entropies is None else pad(entropies, (0, length - kept)), balance


def longest(mask: Tensor) -> int:
    """The columns of a mask of prompts or completions that the longest of them has; at least one."""
    return max(1, int(mask.any(0).sum()))
