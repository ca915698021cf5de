"""The engine `graphs`: transformers' model generates with a static KV cache, and on a GPU by CUDA graphs."""

import sys

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Graphs
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.decoding import check
from gsm8k_grpo.models.decoding.attention import ATTENTION
from gsm8k_grpo.models.decoding.decoder import Decoder
from gsm8k_grpo.models.decoding.sampling import Sampler
from gsm8k_grpo.models.engine import Completion, Prompt, Sampling, read_completion, tokenize_prompts
from gsm8k_grpo.runtime.progress import ProgressBar


class GraphEngine:
    """Decodes all prompts together, as many at a time as the section `graphs` allows."""

    decoder: Decoder

    def __init__(self, source: loading.Source, params: Params):
        self.params = params
        self._load(source)

    def use(self, source: loading.Source) -> None:
        del self.decoder  # keeps only one model in memory
        self._load(source)

    def _load(self, source: loading.Source) -> None:
        network, self.tokenizer = load_network(source, self.params)
        self.context = getattr(network.config.get_text_config(), "max_position_embeddings", sys.maxsize)
        self.decoder = Decoder(network, self.tokenizer, settings_of(self.params))

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        completions = self._complete(prompts, 1, max_completion_length, progress, Sampler(temperature=0), stop)
        return [completion for (completion,) in completions]

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, sampling: Sampling
    ) -> list[list[Completion]]:
        set_seed(sampling.seed)
        sampler = Sampler(sampling.temperature)
        return self._complete(prompts, sampling.samples, max_completion_length, progress, sampler, None)

    def _complete(
        self, prompts: list[Prompt], samples: int, limit: int, progress: str, sampler: Sampler, stop: str | None
    ) -> list[list[Completion]]:
        """`samples` completions per prompt.

        They are not in the order in which they end, since a metric of the first sample would be one of the shortest.
        """
        if not prompts:
            return []
        ids = tokenize_prompts(prompts, self.tokenizer, self.params.chat_template_kwargs)
        check.require_once(self.decoder, ids)

        def ends(so_far: list[int]) -> bool:
            return not read_completion(so_far, self.tokenizer, stop).truncated

        completions: dict[int, dict[int, Completion]] = {index: {} for index in range(len(ids))}
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))  # prompts of one pass have similar lengths
        in_order = [ids[index] for index in order]
        with ProgressBar(total=len(ids), desc=progress, unit="question") as bar:
            generated = self.decoder.generate(in_order, samples, limit, sampler, ends if stop else None)
            for position, copy, one in generated:
                own = completions[order[position]]
                own[copy] = read_completion(one.ids, self.tokenizer, stop)
                bar.update(len(own) // samples)
        return [[own[copy] for copy in range(samples)] for own in completions.values()]


def settings_of(params: Params) -> Graphs:
    """The section `graphs`, which the configuration requires for engine graphs."""
    assert params.graphs is not None
    return params.graphs


def load_network(source: loading.Source, params: Params) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in the type that it computes in, with its adapter added to the weights, and its tokenizer."""
    computed = params.model_copy(update={"precision": loading.COMPUTED[params.precision]})
    network, tokenizer = loading.load(source, computed, ATTENTION)
    if isinstance(network, PeftModel):
        network = network.merge_and_unload()
    network.set_attn_implementation(ATTENTION)
    return network, tokenizer
