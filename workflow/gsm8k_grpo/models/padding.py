"""What the padding of a batch must not change: a model's logits, and the positions that it counts.

transformers masks padding for attention.  A recurrent or convolutional layer has to do so itself, and RecurrentGemma's
does not, so a question would get another answer in a batch than alone, without any sign of it.

A model with learned positions, such as GPT-2, counts padding on the left too unless it is told the positions.
transformers' `generate` tells it, but TRL's update does not, so the model would train on wrong positions.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gsm8k_grpo.files import PipelineError

ROUNDING = 1e-3  # relative to the largest logit; with rotary positions in 32 bit it is below 1e-5


@torch.no_grad()
def require_ignored(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], remedy: str
) -> None:
    """Require that the tokens of the padding do not change the logits of a model's next token.

    Compares the logits after the longest and the shortest of the prompts, for two paddings of the shortest.  They are
    equal to the bit where padding is masked, in every precision.  If a kernel gives another result in each pass, twice
    the difference between two equal passes is allowed.

    Args:
        prompts: token ids; nothing is compared if all are equally long.
        remedy: what to do if the padding changes something, for the message.

    Raises:
        PipelineError: if the padding changes them.
    """
    longest, shortest = max(prompts, key=len, default=[]), min(prompts, key=len, default=[])
    if len(longest) == len(shortest):
        return
    inputs = tokenizer.pad({"input_ids": [longest, shortest]}, return_tensors="pt").to(model.device)
    mask = inputs["attention_mask"]
    ids = inputs["input_ids"]
    other = ids.masked_fill(mask == 0, next(token for token in longest if token != tokenizer.pad_token_id))
    first, again, changed = (_next_logits(model, tokens, mask) for tokens in (ids, ids, other))
    moved, noise = ((logits - first).abs().max().item() for logits in (changed, again))
    if not moved <= 2 * noise:  # also if one is NaN
        raise PipelineError(
            f"{type(model).__name__} does not ignore the padding of a batch: other tokens there change its logits by "
            f"up to {moved:.1g}, as they do where layers are recurrent; {remedy}"
        )


@torch.no_grad()
def count_positions_from_the_first_token(model: PreTrainedModel | PeftModel, prompt: list[int]) -> None:
    """Let a model that reads absolute positions count them from each row's first token, in every later forward pass.

    Rotary positions are relative, so a model that has only these is left as it is.  The model reads absolute positions
    if its logits differ, by more than rounding in 32 bit explains, when all positions of a prompt are one higher.  In
    16 bit the logits of every model differ; with rotary positions, counting then changes nothing but the rounding.

    Args:
        prompt: token ids of any prompt.
    """
    network = model.get_base_model() if isinstance(model, PeftModel) else model
    if "position_ids" not in inspect.signature(network.forward).parameters:
        return  # OPT counts positions by the mask itself; others have none
    ids = torch.tensor([prompt], device=model.device)
    positions = torch.arange(len(prompt), device=model.device)[None]
    logits, higher = (network(input_ids=ids, position_ids=positions + offset).logits.float() for offset in (0, 1))
    if (higher - logits).abs().max() > ROUNDING * logits.abs().max():
        network.register_forward_pre_hook(_count_positions, with_kwargs=True)


def _count_positions(
    network: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Add positions to a forward pass that has a mask of padding and no positions."""
    mask = named.get("attention_mask")
    if mask is not None and mask.dim() == 2 and named.get("position_ids") is None:
        named = named | {"position_ids": (mask.long().cumsum(1) - 1).clamp(min=0)}
    return arguments, named


def _next_logits(model: PreTrainedModel | PeftModel, ids: Tensor, mask: Tensor) -> Tensor:
    """(rows, vocabulary) logits of the token after each prompt."""
    generate = cast(Callable[..., Any], model.generate)
    done = generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=1, do_sample=False, output_logits=True,
        return_dict_in_generate=True, pad_token_id=int(ids[-1, 0]),
    )  # fmt: skip
    return done.logits[0].float()
