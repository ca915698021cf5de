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
        in_prompts, in_completions = mask.any(0).tensor_split([-length])
        first = len(in_prompts) - int(in_prompts.sum())  # prompts are padded on the left
        longest = max(1, int(in_completions.sum()))  # completions on the right
        ids, mask = (tensor[:, first : len(in_prompts) + longest] for tensor in (ids, mask))
        logps, entropies, balance = super().logps_and_entropies(model, ids, mask, longest, rows_at_once, **options)
        # The same value for every padding: else its ratio to that of another pass could be infinite.
        logps = pad(logps.masked_fill(mask[:, -longest:] == 0, 0.0), (0, length - longest))
        return logps, None if entropies is None else pad(entropies, (0, length - longest)), balance
