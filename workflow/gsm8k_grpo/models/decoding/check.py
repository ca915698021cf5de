"""A check that decoding with the static cache is right for a model: a few greedy tokens against whole forward passes.

Layers whose state is not keys and values, such as recurrent ones, would generate from the last token alone, and a
model's own positions or masks would be ignored.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from gsm8k_grpo.files import first_line
from gsm8k_grpo.models.decoding.batch import Generated
from gsm8k_grpo.models.decoding.decoder import Decoder, refusal
from gsm8k_grpo.models.decoding.sampling import Sampler
from gsm8k_grpo.models.logprobs import TOLERANCE, Logits

TOKENS = 12  # more than `decoder.STEPS`, so that a captured graph is checked too
# What a forward pass raises on arguments that its model does not expect, or if it can't be captured.
UNFIT = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


def require_once(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> None:
    """Call `require` before the first completions of a decoder, and not again."""
    if not decoder.is_checked:
        require(decoder, prompts)
        decoder.is_checked = True


def require(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> None:
    """Require that the log-probabilities of decoded tokens are those of a forward pass over the whole sequence.

    Args:
        decoder: the decoder, with the weights of the model.
        prompts: the token ids of prompts; the shortest and the longest are decoded together.

    Raises:
        PipelineError: if they differ, or the model can't be decoded like this; the message gives the reason.
    """
    pair = [min(prompts, key=len), max(prompts, key=len)]
    try:
        decoded = list(decoder.generate(pair, 1, TOKENS, Sampler(temperature=0)))
        differences = [_apart(decoder.network, pair[index], generated) for index, _, generated in decoded]
    except torch.OutOfMemoryError:
        raise
    except UNFIT as error:
        raise refusal(decoder.network, f"its forward pass refuses it ({first_line(error)})") from error
    apart = torch.tensor(differences).max().item()  # NaN if one is, unlike Python's max
    tolerance = TOLERANCE[decoder.network.dtype]
    if not apart <= tolerance:
        raise refusal(
            decoder.network,
            f"the log-probabilities of its tokens are {apart:.2g} from those of whole sequences on average, and "
            f"rounding explains {tolerance}",
        )


@torch.no_grad()
@torch.compiler.set_stance("force_eager")
def _apart(network: PreTrainedModel, prompt: Sequence[int], generated: Generated) -> float:
    """The mean difference between a completion's log-probabilities and those of a pass over prompt and completion."""
    ids = torch.tensor([[*prompt, *generated.ids]], device=network.device)
    decoder = network.get_decoder()
    states = decoder(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 : -1]
    logits = Logits.of(decoder.config).of_output(network.get_output_embeddings()(states))
    whole = logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None]).squeeze(-1)
    return (whole - torch.tensor(generated.logps, device=network.device)).abs().mean().item()
