"""The engine `transformers`: generation by transformers' `generate`."""

import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from transformers import PreTrainedModel, set_seed

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models import loading, padding
from gsm8k_grpo.models.engine import Completion, Prompt, Sampling, read_completion, stop_tokens, tokenize_prompts
from gsm8k_grpo.runtime.progress import ProgressBar


class TransformersEngine:
    """transformers' `generate`, in batches of prompts of similar length."""

    model: PreTrainedModel

    def __init__(self, source: loading.Source, params: Params):
        self.params, self.batch_size = params, params.evaluate.batch_size
        self._load(source)

    def use(self, source: loading.Source) -> None:
        del self.model  # keeps only one model in memory
        self._load(source)

    def _load(self, source: loading.Source) -> None:
        self.model, self.tokenizer = loading.load(source, self.params)
        self.model.eval()
        # Models with relative positions have no limit.
        self.context = getattr(self.model.config.get_text_config(), "max_position_embeddings", sys.maxsize)

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        stopping: dict[str, Any] = {"stop_strings": [stop], "tokenizer": self.tokenizer} if stop else {}
        completions = self._complete(prompts, 1, progress, stop, max_new_tokens=max_completion_length, **stopping)
        return [completion for (completion,) in completions]

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, sampling: Sampling
    ) -> list[list[Completion]]:
        set_seed(sampling.seed)
        # Without these values, top_k and top_p of the model's generation_config.json would truncate the distribution.
        options: dict[str, Any] = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
        options["max_new_tokens"] = max_completion_length
        return self._complete(prompts, sampling.samples, progress, None, **options)

    @torch.inference_mode()
    def _complete(
        self, prompts: list[Prompt], samples: int, progress: str, stop: str | None, **options: Any
    ) -> list[list[Completion]]:
        """`samples` completions per prompt; `options` go to `generate` and override the model's own."""
        ids = tokenize_prompts(prompts, self.tokenizer, self.params.chat_template_kwargs)
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]), reverse=True)
        prompts_per_batch = max(1, self.batch_size // samples)
        if prompts_per_batch > 1:
            padding.require_ignored(self.model, self.tokenizer, ids, "set evaluate.batch_size: 1, or engine: vllm")
        options = {"do_sample": False, "repetition_penalty": 1.0, "num_return_sequences": samples} | options
        completions: dict[int, list[Completion]] = {}
        with ProgressBar(total=len(ids), desc=progress, unit="question") as bar:
            for start in range(0, len(order), prompts_per_batch):
                batch = order[start : start + prompts_per_batch]
                rows = self._generate([ids[index] for index in batch], options)
                for position, index in enumerate(batch):
                    own = rows[position * samples : (position + 1) * samples]
                    completions[index] = [read_completion(row, self.tokenizer, stop) for row in own]
                bar.update(len(batch))
        return [completions[index] for index in range(len(ids))]

    def _generate(self, ids: list[list[int]], options: dict[str, Any]) -> list[list[int]]:
        """The token ids generated after each prompt, one row per completion."""
        inputs = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        generate = cast(Callable[..., torch.Tensor], self.model.generate)
        completed = generate(
            **inputs.to(self.model.device),
            eos_token_id=stop_tokens(self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
            **options,
        )
        return completed[:, inputs["input_ids"].shape[1] :].tolist()
