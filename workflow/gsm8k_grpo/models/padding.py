"""Whether a model ignores the padding of a batch, which recurrent layers may not.

transformers masks padding for attention.  A recurrent or convolutional layer has to do so itself, and RecurrentGemma's
does not, so a question would get another answer in a batch than alone, and nothing would show it.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gsm8k_grpo.files import PipelineError


@torch.no_grad()
def require_ignored(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], remedy: str
) -> None:
    """Require that the tokens of the padding do not change a model's next token.

    Compares the logits after the longest and the shortest of the prompts, for two paddings of the shortest.  They are
    equal to the bit where padding is masked, in every precision.  A kernel whose result varies by itself is allowed
    twice the difference between two equal passes.

    Args:
        prompts: token ids; nothing is compared if all are equally long.
        remedy: what to do if the padding changes something, for the message.

    Raises:
        PipelineError: if it does.
    """
    longest, shortest = max(prompts, key=len, default=[]), min(prompts, key=len, default=[])
    if len(longest) == len(shortest):
        return
    inputs = tokenizer.pad({"input_ids": [longest, shortest]}, return_tensors="pt").to(model.device)
    mask = inputs["attention_mask"]
    ids = inputs["input_ids"]
    other = ids.masked_fill(mask == 0, longest[0])
    first, again, changed = (_next_logits(model, tokens, mask) for tokens in (ids, ids, other))
    moved, noise = ((logits - first).abs().max().item() for logits in (changed, again))
    if moved > 2 * noise:
        raise PipelineError(
            f"{type(model).__name__} does not ignore the padding of a batch: other tokens there change its logits by "
            f"up to {moved:.1g}, as they do where layers are recurrent; {remedy}"
        )


def _next_logits(model: PreTrainedModel | PeftModel, ids: Tensor, mask: Tensor) -> Tensor:
    """(rows, vocabulary) logits of the token after each prompt."""
    generate = cast(Callable[..., Any], model.generate)
    done = generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=1, do_sample=False, output_logits=True,
        return_dict_in_generate=True, pad_token_id=int(ids[-1, 0]),
    )  # fmt: skip
    return done.logits[0].float()
