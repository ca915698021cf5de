"""Generation by transformers' `generate`, in batches of prompts of similar length."""

from typing import Any

import torch
from transformers import set_seed

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.engine import Completion, Prompt, Sampling, read_completion, stop_tokens, tokenize_prompts
from gsm8k_grpo.runtime.progress import ProgressBar


class TransformersEngine:
    """transformers' `generate`, in batches of prompts of similar length."""

    def __init__(self, source: loading.Source, params: Params):
        self.params, self.batch_size = params, params.evaluate.batch_size
        self.use(source)

    def use(self, source: loading.Source) -> None:
        self.model = None  # one model at a time in memory
        self.model, self.tokenizer = loading.load(source, self.params)
        self.model.eval()
        self.context = self.model.config.get_text_config().max_position_embeddings

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        stopping = {"stop_strings": [stop], "tokenizer": self.tokenizer} if stop else {}
        answers = self._answers(prompts, 1, progress, stop, max_new_tokens=max_completion_length, **stopping)
        return [one for (one,) in answers]

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, draw: Sampling
    ) -> list[list[Completion]]:
        set_seed(draw.seed)
        # What a model's own generation_config.json would cut off the distribution is left in it.
        drawn = {"do_sample": True, "temperature": draw.temperature, "top_k": 0, "top_p": 1.0}
        return self._answers(prompts, draw.samples, progress, None, max_new_tokens=max_completion_length, **drawn)

    @torch.inference_mode()
    def _answers(
        self, prompts: list[Prompt], each: int, progress: str, stop: str | None, **options: Any
    ) -> list[list[Completion]]:
        """`each` completions per prompt; options are those of `generate`, in place of the model's own."""
        ids = tokenize_prompts(prompts, self.tokenizer)
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]), reverse=True)
        at_a_time = max(1, self.batch_size // each)
        options = {"do_sample": False, "repetition_penalty": 1.0, "num_return_sequences": each} | options
        answers: dict[int, list[Completion]] = {}
        with ProgressBar(total=len(ids), desc=progress, unit="question") as bar:
            for start in range(0, len(order), at_a_time):
                batch = order[start : start + at_a_time]
                rows = self._generate([ids[index] for index in batch], options)
                for place, index in enumerate(batch):
                    own = rows[place * each : (place + 1) * each]
                    answers[index] = [read_completion(row, self.tokenizer, stop) for row in own]
                bar.update(len(batch))
        return [answers[index] for index in range(len(ids))]

    def _generate(self, ids: list[list[int]], options: dict[str, Any]) -> list[list[int]]:
        inputs = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        completed = self.model.generate(
            **inputs.to(self.model.device),
            eos_token_id=stop_tokens(self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
            **options,
        )
        return completed[:, inputs["input_ids"].shape[1] :].tolist()
