"""Values and log-probabilities of completions from one forward pass, padded or packed."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.objective import COMPLETION, completion_logps, joined
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.padded import PaddedGRPOTrainer, longest
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


def logps_entropies_values(
    trainer: ResumableGRPOTrainer, model: nn.Module, rows: dict[str, Tensor], head: nn.Module
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Log-probabilities, entropies and values of completions, and the loss that balances experts, if any.

    The value of a token estimates the rewards from this token on, from what comes before it.  The head reads the states
    that the language model's own head reads.  If there are more rows than a batch of the update has, they are computed
    batch by batch.

    Args:
        rows: `prompt_ids`, `prompt_mask`, `completion_ids` and `completion_mask` of whole groups.
        head: maps states to values, see `value_head`.

    Returns:
        Three (rows, completion length) tensors, and a scalar or None.  The scalar is that of the first batch, since
        only an update needs it, and an update has one batch.
    """
    size = trainer.args.per_device_train_batch_size
    starts = range(0, len(rows["prompt_ids"]), size)
    batches = [{name: rows[name][start : start + size] for name in COMPLETION} for start in starts]
    compute = _packed if isinstance(trainer, PackedGRPOTrainer) else _padded
    parts = [compute(trainer, model, batch, head) for batch in batches]  # type: ignore[arg-type]
    *of_tokens, balances = zip(*parts, strict=True)
    logps, entropies, values = (torch.cat(tensors) for tensors in of_tokens)
    return logps, entropies, values, balances[0]


def _padded(
    trainer: ResumableGRPOTrainer, model: nn.Module, rows: dict[str, Tensor], head: nn.Module
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    states: list[Tensor] = []
    language_head = trainer.accelerator.unwrap_model(model).get_output_embeddings()
    hook = language_head.register_forward_pre_hook(lambda module, arguments: states.append(arguments[0]))
    logps, entropies, balance = completion_logps(trainer, model, rows)
    hook.remove()
    # The same states as for the logits: the last one would predict a token after the end, and those before the last
    # `computed` belong to the prompt.
    length = rows["completion_ids"].shape[1]
    computed = longest(rows["completion_mask"]) if isinstance(trainer, PaddedGRPOTrainer) else length
    values = head(states[0][:, :-1][:, -computed:])
    return logps, entropies, pad(values, (0, length - computed)), balance


def _packed(
    trainer: PackedGRPOTrainer, model: nn.Module, rows: dict[str, Tensor], head: nn.Module
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    ids, mask = joined(rows)
    length = rows["completion_ids"].shape[1]
    network = trainer._without_adapters(model)
    packed = packing.pack(ids, mask, length, trainer.group_size)
    states = trainer.completion_states(network, packed)
    logps, entropies = trainer.logps_of_states(network, states, packed, len(ids), length)
    return logps, entropies, packing.unpack(head(states), packed, len(ids), length), None
