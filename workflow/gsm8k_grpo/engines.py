"""Generation for evaluation: many prompts in, completions out in the same order."""

from dataclasses import dataclass

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gsm8k_grpo.prompts import Message


@dataclass(frozen=True)
class Completion:
    """What a model answered: its text without special tokens, its length, and whether the limit cut it off."""

    text: str
    tokens: int
    truncated: bool


class TransformersEngine:
    """Greedy decoding with transformers' `generate`, in batches of prompts of similar length."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int):
        self.model, self.tokenizer, self.batch_size = model.eval(), tokenizer, batch_size

    @torch.inference_mode()
    def complete(self, prompts: list[list[Message]], max_completion_length: int, progress: str) -> list[Completion]:
        """One completion per prompt, of at most `max_completion_length` tokens; `progress` names the bar."""
        texts = [self.tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]), reverse=True)
        completions: dict[int, Completion] = {}
        with tqdm(total=len(texts), desc=progress, unit="question") as bar:
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                answers = self._batch([texts[index] for index in batch], max_completion_length)
                completions.update(zip(batch, answers, strict=True))
                bar.update(len(batch))
        return [completions[index] for index in range(len(texts))]

    def _batch(self, texts: list[str], limit: int) -> list[Completion]:
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        ids = self.model.generate(
            **inputs.to(self.model.device),
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :]
        return [self._read(row) for row in ids.tolist()]

    def _read(self, ids: list[int]) -> Completion:
        end = self.tokenizer.eos_token_id
        truncated = end not in ids
        kept = ids if truncated else ids[: ids.index(end) + 1]
        return Completion(self.tokenizer.decode(kept, skip_special_tokens=True), len(kept), truncated)
