"""The completions that are decoded together: their rows of the cache, their tokens, and one step of all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gsm8k_grpo.models.attention import MARKER, masks_for_layers
from gsm8k_grpo.models.decoding.attention import KEYS, VALUES, has_flash, rows_of
from gsm8k_grpo.models.decoding.sampling import Sampler
from gsm8k_grpo.models.logprobs import Logits

PREFILL_TOKENS = 8192  # tokens of prompts, with their padding, in one forward pass
# Numbers of completions for which a graph is captured; a step is rounded up to the next of them.
SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 768, 1024, 1536, 2048)


@dataclass(frozen=True)
class Generated:
    """A completion: its token ids, including the one that ended it, and their log-probabilities."""

    ids: list[int]
    logps: list[float]


@dataclass(frozen=True)
class Setup:
    """What all batches of a decoder have in common.

    Attributes:
        network: the model, with the attention `decoding.attention.ATTENTION`.
        capacity: the number of tokens that the cache has room for.
        stop_tokens: (stop tokens,) ids of the tokens that end a completion.
        pool: the memory pool of the CUDA graphs; None on a CPU.
        compiled: whether the function that chooses tokens is compiled.
    """

    network: PreTrainedModel
    capacity: int
    stop_tokens: Tensor
    pool: Any
    compiled: bool


class Batch:
    """Rows of completions, of which the first `active` are in use.

    Args:
        setup: the model and its cache.
        rows: the largest number of completions at the same time.
        row_length: the largest number of tokens of a prompt with its completion.
        limit: the largest number of tokens of a completion.
        sampler: how tokens are chosen.
    """

    def __init__(self, setup: Setup, rows: int, row_length: int, limit: int, sampler: Sampler):
        device, network = setup.stop_tokens.device, setup.network
        self.setup, self.rows, self.row_length, self.limit, self.sampler = setup, rows, row_length, limit, sampler
        self.active = 0
        self._index = torch.arange(rows, device=device)
        # Of each row: its last token, which is not in the cache yet; how many tokens the cache has; how many tokens the
        # completion has.
        self._current, self._cached, self._count = torch.zeros(3, rows, dtype=torch.long, device=device)
        self._ended = torch.ones(rows, dtype=torch.bool, device=device)
        # A row that has ended writes into the column after its tokens; the last column is for rows of full length.
        self._ids = torch.zeros(rows, limit + 1, dtype=torch.long, device=device)
        self._logps = torch.zeros(rows, limit + 1, device=device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._flash = has_flash(device, network.dtype)
        self._head = network.get_output_embeddings()
        self._decoder = network.get_decoder()
        self._transform = Logits.of(self._decoder.config)
        self._choose = torch.compile(self._chosen, dynamic=True) if setup.compiled else self._chosen
        marker = torch.ones(MARKER, dtype=torch.bool, device=device)
        self._common = {
            "attention_mask": masks_for_layers(self._decoder.config, lambda window: marker),
            "use_cache": False,
            "row_length": row_length,
        }

    def admit(self, prompts: Sequence[Sequence[int]]) -> None:
        """Begin a completion of each prompt; equal prompts in a row are computed once."""
        for chunk in _chunks(prompts):
            self._admit(chunk)

    @torch.compiler.set_stance("force_eager")  # prompts have another shape each time
    def _admit(self, prompts: Sequence[Sequence[int]]) -> None:
        distinct: list[Sequence[int]] = []
        prompt_of_row = []
        for prompt in prompts:
            if not distinct or prompt != distinct[-1]:
                distinct.append(prompt)
            prompt_of_row.append(len(distinct) - 1)
        device = self._index.device
        lengths = torch.tensor([len(ids) for ids in distinct], device=device)
        padded = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in distinct], batch_first=True).to(device)
        of_row = torch.tensor(prompt_of_row, device=device)
        positions = torch.arange(padded.shape[1], device=device).expand_as(padded)
        own = {"capacity": self.setup.capacity, "first_row": self.active, "prompt_of_row": of_row}
        states = self._decoder(input_ids=padded, position_ids=positions, **self._common, **own).last_hidden_state
        new = slice(self.active, self.active + len(prompts))
        self._cached[new] = lengths[of_row]
        self._count[new] = 0
        self._ended[new] = False
        last = states[torch.arange(len(distinct), device=device), lengths - 1]
        self._append(new, last[of_row])
        self.active += len(prompts)

    def step(self, times: int) -> None:
        """Generate up to `times` more tokens of each active completion, until it ends."""
        if not self._index.is_cuda:
            for _ in range(times):
                self._step(self.active)
            return
        size = min(self.rows, next((size for size in SIZES if size >= self.active), self.rows))
        if size not in self._graphs:
            self._step(size)  # a first call compiles and allocates, which can't be captured
            times -= 1
            self._graphs[size] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graphs[size], pool=self.setup.pool):
                self._step(size)
        for _ in range(times):
            self._graphs[size].replay()

    def _step(self, size: int) -> None:
        cached = self._cached[:size]
        # A CUDA graph computes fixed shapes, and must not wait for a number from the GPU.
        longest = self.row_length if cached.is_cuda else int(cached.max()) + 1
        states = self._decoder(
            input_ids=self._current[:size, None],
            position_ids=cached[:, None],
            slots=self._index[:size] * self.row_length + cached,
            lengths=(cached + 1).int(),
            longest=longest,
            flash=self._flash,
            **self._common,
        ).last_hidden_state[:, 0]
        cached += ~self._ended[:size]
        self._append(slice(0, size), states)

    def _append(self, rows: slice, states: Tensor) -> None:
        """Choose and store the next token of some rows, from the (rows, width) states of their last tokens."""
        tokens, logps = self._choose(self._head(states))
        count, ended = self._count[rows], self._ended[rows]
        self._ids[self._index[rows], count] = tokens
        self._logps[self._index[rows], count] = logps
        self._current[rows] = tokens
        count += ~ended
        ended |= (tokens[:, None] == self.setup.stop_tokens).any(1) | (count >= self.limit)

    def _chosen(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The (rows,) next tokens and their log-probabilities, from the (rows, vocabulary) output of the head."""
        return self.sampler.choose(self._transform.of_output(output))

    def ended(self) -> list[int]:
        """The active rows whose completions have ended."""
        return self._ended[: self.active].nonzero().squeeze(1).tolist()

    def read(self, rows: Sequence[int]) -> list[Generated]:
        """The completions in some rows, as far as they have been generated."""
        index = torch.tensor(rows, dtype=torch.long, device=self._index.device)
        counts = self._count[index].tolist()
        ids, logps = self._ids[index].tolist(), self._logps[index].tolist()
        return [Generated(ids[i][:count], logps[i][:count]) for i, count in enumerate(counts)]

    def release(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        """Free some rows; the last of the other active rows move into their places.

        Returns:
            The moves, each as a pair of the old and the new row.
        """
        remaining = self.active - len(rows)
        freed = set(rows)
        holes = [row for row in sorted(freed) if row < remaining]
        movers = [row for row in range(remaining, self.active) if row not in freed]
        if movers:
            source, target = (torch.tensor(index, device=self._index.device) for index in (movers, holes))
            for tensor in self._tensors():
                tensor[target] = tensor[source]
        self._ended[remaining : self.active] = True
        self.active = remaining
        return list(zip(movers, holes, strict=True))

    def _tensors(self) -> Iterator[Tensor]:
        """All tensors whose first dimension is the rows."""
        yield from (self._current, self._cached, self._count, self._ended, self._ids, self._logps)
        for name, buffer in self._decoder.named_buffers():
            if name.rpartition(".")[2] in (KEYS, VALUES):
                yield rows_of(buffer, self.row_length)


def _chunks(prompts: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """Split prompts into chunks whose distinct prompts, padded, have at most PREFILL_TOKENS; each has at least one."""
    begin, distinct, width = 0, 0, 0
    for index, prompt in enumerate(prompts):
        new = index == begin or prompt != prompts[index - 1]
        wider = max(width, len(prompt))
        if index > begin and (distinct + new) * wider > PREFILL_TOKENS:
            yield prompts[begin:index]
            begin, distinct, width = index, 1, len(prompt)
        else:
            distinct, width = distinct + new, wider
    if begin < len(prompts):
        yield prompts[begin:]
