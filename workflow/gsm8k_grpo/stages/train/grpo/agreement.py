"""A check before training that packed batches are right for a model, on one group of the data, packed and padded.

Packed batches assume a decoder whose tokens affect each other through masked attention alone, and logits that are the
head's output, scaled and perhaps capped.  An architecture that does more would train on a wrong gradient, and no curve
would show it, because old, new and reference log-probabilities would have the same fault.

Both comparisons are of log-probabilities in evaluation mode.  They were measured on random models of 35 architectures,
with weights of two sizes, in every precision:

- Where packed batches are right, replacing the tokens of other completions does not change a single bit of a
  completion's log-probabilities.  Where layers are recurrent or convolutional, it changes them by 0.001 or more, in
  16 bit too, even if the effect is less than rounding.  If a kernel gives another result in each pass, twice the
  difference between two equal passes is allowed.
- Where packed batches are right, the mean difference between a completion's log-probabilities and TRL's is at most 2e-6
  in 32 bit, 0.005 in float16 and 0.04 in bfloat16.  If the scale of the logits or a sliding window is ignored, it is
  0.2 or more in all but a few models whose logits hardly depend on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, cycle, islice

import torch
from torch import Tensor, nn
from trl import GRPOTrainer

from gsm8k_grpo.files import PipelineError, first_line
from gsm8k_grpo.models.logprobs import TOLERANCE
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# What a forward pass raises on arguments that its model does not expect.
UNFIT = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


def require(trainer: PackedGRPOTrainer) -> None:
    """Require that packed batches are right for the trainer's model.  Weights and random states stay as they are.

    Raises:
        PipelineError: if they are not, with the reason.
    """
    network = trainer._without_adapters(trainer.model)
    if trainer.aux_loss_enabled:
        raise refusal(network, "its experts have a load-balancing loss, which packed batches do not compute")
    ids, mask, length = _group(trainer)
    other = ids.clone()
    other[::2, -length:] = ids[::2, -length:].roll(1, 1)  # other completions in every second row
    with _aside(trainer.model):
        try:
            trainer.model.train()  # only in this mode is attention that drops weights refused
            _packed(trainer, ids, mask, length)
            trainer.model.eval()
            packed, again, beside_other = (_packed(trainer, batch, mask, length) for batch in (ids, ids, other))
        except torch.OutOfMemoryError:
            raise
        except UNFIT as error:
            raise refusal(network, f"its forward pass refuses one ({first_line(error)})") from error
        with trainer.accelerator.autocast():
            padded, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(trainer, trainer.model, ids, mask, length, 1)
    moved, noise = ((logps - packed)[1::2].abs().max().item() for logps in (beside_other, again))
    if not moved <= 2 * noise:  # also if one is NaN
        raise refusal(
            network,
            f"other completions of a prompt change a completion's log-probabilities (by up to {moved:.1g}), as they do "
            "where layers are recurrent or convolutional",
        )
    seen = mask[:, -length:]
    apart = (((packed - padded).abs() * seen).sum(1) / seen.sum(1)).max().item()
    tolerance = TOLERANCE[AUTOCAST.get(trainer.accelerator.mixed_precision, network.dtype)]
    if not apart <= tolerance:  # NaN too
        raise refusal(
            network,
            f"its log-probabilities are {apart:.2g} from those of padded batches on average, and rounding explains "
            f"{tolerance}",
        )


def refusal(network: nn.Module | str, reason: str) -> PipelineError:
    """The error that names the model's architecture and what to do."""
    name = network if isinstance(network, str) else type(network).__name__
    return PipelineError(
        f"train.share_prompts = true: {name} can't be trained on packed batches, because {reason}; "
        "set share_prompts: false"
    )


def _packed(trainer: PackedGRPOTrainer, ids: Tensor, mask: Tensor, length: int) -> Tensor:
    logps, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, length)
    assert logps is not None  # a call outside an update is always computed
    return logps


def _group(trainer: PackedGRPOTrainer) -> tuple[Tensor, Tensor, int]:
    """(rows, tokens) ids and mask of the longest prompt with completions up to the limit, and this limit.

    The completions are made of the data's text, since real ones are not known; their lengths differ, so that there is
    padding.
    """
    rows, length = trainer.group_size, trainer.max_completion_length
    prompts = list(trainer.train_dataset["prompt"])  # type: ignore[index]
    longest = max(prompts, key=lambda prompt: len(str(prompt)))
    (prompt, *texts), _, _ = trainer._tokenize_prompts([longest, *prompts[: rows * length]])
    tokens = list(islice(cycle(chain(*texts)), rows * length))
    ids = torch.tensor([prompt + tokens[row * length : (row + 1) * length] for row in range(rows)])
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        mask[row, ids.shape[1] - row * length // (2 * rows) :] = 0
    device = trainer.accelerator.device
    return ids.to(device), mask.to(device), length


@contextmanager
def _aside(model: nn.Module) -> Iterator[None]:
    """Run the block without gradients and without compiled layers, and restore modes and random states afterwards."""
    modes = {module: module.training for module in model.modules()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.no_grad(), torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
        yield
    for module, training in modes.items():
        module.training = training
    torch.cuda.empty_cache()  # an engine that starts next looks for free memory
