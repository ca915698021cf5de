"""The loop of decoding: admit completions while there is room, take steps, and collect completions that have ended."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gsm8k_grpo.config.sections import Graphs
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models.compiling import compile_layers
from gsm8k_grpo.models.decoding.batch import Batch, Generated, Setup
from gsm8k_grpo.models.decoding.sampling import Sampler
from gsm8k_grpo.models.engine import stop_tokens

STEPS = 8  # steps between two looks at which completions have ended
ROW_STEP = 64  # lengths of rows are rounded up to a multiple of this, so that graphs are captured for few of them
ADMITTED_SHARE = 8  # new completions begin when 1 / 8 of the rows are free

Ends = Callable[[list[int]], bool]
"""Whether a completion with these tokens has ended, even without a stop token."""


class Decoder:
    """Generates with a model that has the attention `decoding.attention.ATTENTION`.

    Args:
        network: the model; its weights may be overwritten in place at any time.
        tokenizer: the tokenizer, for the tokens that end a completion.
        settings: the memory of the cache, the number of completions at the same time, and whether layers are compiled.
    """

    def __init__(self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Graphs):
        self.network, self.settings = network.eval().requires_grad_(False), settings
        self._setup = Setup(
            network=network,
            capacity=int(settings.kv_cache_gib * 2**30) // _bytes_per_token(network),
            stop_tokens=torch.tensor(stop_tokens(tokenizer), device=network.device),
            pool=torch.cuda.graph_pool_handle() if network.device.type == "cuda" else None,
            compiled=settings.compile,
        )
        self.is_checked = False  # set by `check.require_once`
        self._batches: dict[tuple[int, int, Sampler], Batch] = {}
        if settings.compile:
            compile_layers(network)

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], copies: int, limit: int, sampler: Sampler, ends: Ends | None = None
    ) -> Iterator[tuple[int, int, Generated]]:
        """Complete prompts; a completion is yielded when it has ended, with the indices of its prompt and its copy.

        Args:
            prompts: the token ids of each prompt.
            copies: the number of completions of each prompt.
            limit: the maximum number of tokens of a completion.
            sampler: how tokens are chosen.
            ends: tells whether a completion has ended, in addition to stop tokens.

        Raises:
            PipelineError: if the cache has no room for a single completion.
        """
        batch = self._batch(max(map(len, prompts)) + limit, limit, sampler)
        batch.release(range(batch.active))  # those of a generation that was interrupted
        waiting = deque((index, copy) for index in range(len(prompts)) for copy in range(copies))
        owners: list[tuple[int, int]] = []  # prompt and copy of each row
        while waiting or owners:
            free = batch.rows - len(owners)
            if waiting and (not owners or free >= min(len(waiting), batch.rows // ADMITTED_SHARE)):
                new = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                batch.admit([prompts[index] for index, _ in new])
                owners += new
            batch.step(STEPS)
            ended = self._ended(batch, ends)
            for row, generated in zip(ended, batch.read(ended), strict=True):
                yield *owners[row], generated
            for source, target in batch.release(ended):
                owners[target] = owners[source]
            del owners[batch.active :]

    def _ended(self, batch: Batch, ends: Ends | None) -> list[int]:
        ended = batch.ended()
        if ends is None:
            return ended
        others = sorted(set(range(batch.active)) - set(ended))
        return ended + [row for row, so_far in zip(others, batch.read(others), strict=True) if ends(so_far.ids)]

    def _batch(self, tokens: int, limit: int, sampler: Sampler) -> Batch:
        """The batch whose rows have room for `tokens` tokens, of a prompt with its completion."""
        row_length = -(-tokens // ROW_STEP) * ROW_STEP
        rows = min(self.settings.max_num_seqs, self._setup.capacity // row_length)
        if rows == 0:
            raise PipelineError(
                f"graphs.kv_cache_gib = {self.settings.kv_cache_gib:g}: holds {self._setup.capacity:,} tokens, and the "
                f"longest prompt with its completion has up to {tokens:,}; raise it"
            )
        key = (row_length, limit, sampler)
        if key not in self._batches:
            self._batches[key] = Batch(self._setup, rows, row_length, limit, sampler)
        return self._batches[key]


def refusal(network: PreTrainedModel, reason: str) -> PipelineError:
    """The error that names the model's architecture and what to do."""
    return PipelineError(
        f"engine = graphs: {type(network).__name__} can't be decoded with a static cache, because {reason}; "
        "use engine: vllm or transformers"
    )


def _bytes_per_token(network: PreTrainedModel) -> int:
    """The bytes that a token takes in the cache: keys and values of all layers, in the type of the weights."""
    config = network.config.get_text_config()
    if not hasattr(config, "num_attention_heads"):
        raise refusal(network, "it has no attention")
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * network.dtype.itemsize
