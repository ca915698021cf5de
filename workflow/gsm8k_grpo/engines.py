"""Generation for evaluation: many prompts in, completions out in the same order, by transformers or by vLLM."""

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from gsm8k_grpo import models
from gsm8k_grpo.params import Params
from gsm8k_grpo.prompts import Message

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

PREFILL_TOKENS = 8192  # of prompts read at a time
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has adapters of

Prompts = list[list[Message]]


@dataclass(frozen=True)
class Completion:
    """What a model answered: its text without special tokens, its length, and whether the limit cut it off."""

    text: str
    tokens: int
    truncated: bool


class Engine(Protocol):
    def use(self, source: models.Source) -> None:
        """Answer with another model of the same shape from now on."""

    def complete(self, prompts: Prompts, max_completion_length: int, progress: str) -> list[Completion]:
        """One greedy completion per prompt, of at most `max_completion_length` tokens; `progress` names the bar."""


def load(source: models.Source, params: Params) -> Engine:
    """The engine that `engine` names, with a model in it."""
    return (VllmEngine if params.engine == "vllm" else TransformersEngine)(source, params)


class TransformersEngine:
    """Greedy decoding with transformers' `generate`, in batches of prompts of similar length."""

    def __init__(self, source: models.Source, params: Params):
        self.params, self.batch_size = params, params.evaluate.batch_size
        self.use(source)

    def use(self, source: models.Source) -> None:
        self.model = None  # one model at a time in memory
        self.model, self.tokenizer = models.load(source, self.params)
        self.model.eval()

    @torch.inference_mode()
    def complete(self, prompts: Prompts, max_completion_length: int, progress: str) -> list[Completion]:
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
            eos_token_id=stop_tokens(self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :]
        return [read(row, self.tokenizer) for row in ids.tolist()]


class VllmEngine:
    """Greedy decoding with vLLM in this process; it forms its own batches."""

    def __init__(self, source: models.Source, params: Params):
        self._numbers = itertools.count(1)
        self.tokenizer = models.load_tokenizer(source.model)
        adapters = {"enable_lora": True, "max_lora_rank": _rank_of_vllm(source.adapter)} if source.adapter else {}
        self.llm = start(source.model, params, **adapters)
        self.adapter = self._request(source)

    def use(self, source: models.Source) -> None:
        self.adapter = self._request(source)
        if source.adapter is None:
            files = sorted(str(path) for path in Path(source.model).glob("*.safetensors"))
            network(self.llm).load_weights(item for file in files for item in load_file(file).items())
            self.llm.reset_prefix_cache()  # keys and values of the weights before

    def complete(self, prompts: Prompts, max_completion_length: int, progress: str) -> list[Completion]:
        from vllm import SamplingParams

        def bar(*args: Any, **options: Any) -> tqdm:
            return tqdm(*args, **(options | {"desc": progress, "unit": "question"}))

        texts = [self.tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        greedy = SamplingParams(
            temperature=0.0,
            max_tokens=max_completion_length,
            stop_token_ids=stop_tokens(self.tokenizer),
            detokenize=False,
        )
        rows = [{"prompt_token_ids": row} for row in ids]
        answers = self.llm.generate(rows, greedy, use_tqdm=bar, lora_request=self.adapter)
        return [read(list(answer.outputs[0].token_ids), self.tokenizer) for answer in answers]

    def _request(self, source: models.Source) -> "LoRARequest | None":
        """vLLM knows an adapter by its number, so that each gets another."""
        if source.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(source.adapter, next(self._numbers), source.adapter)


def _rank_of_vllm(adapter: str) -> int:
    """The smallest rank that vLLM has room for and that holds the adapter's."""
    rank = json.loads((Path(adapter) / "adapter_config.json").read_bytes())["r"]
    return next(size for size in RANKS if size >= rank)


def network(llm: "LLM") -> nn.Module:
    """The model inside vLLM, which runs in this process."""
    return llm.llm_engine.model_executor.driver_worker.model_runner.model


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a completion: a turn's, and the document's, which base models may give in its place."""
    return sorted({tokenizer.eos_token_id, tokenizer.pad_token_id})


def read(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Completion:
    """The completion in a row of tokens, of which those after its end don't count."""
    ends = set(stop_tokens(tokenizer))
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    kept = ids if end is None else ids[: end + 1]
    return Completion(tokenizer.decode(kept, skip_special_tokens=True), len(kept), end is None)


def start(model: str, params: Params, sleep: bool = False, **further: Any) -> "LLM":
    """vLLM in this process, with the model of a folder or of the hub; `further` goes to vLLM's LLM.

    The share of the card that vLLM would take for itself is not used: `kv_cache_gib` says what it takes beside the
    weights.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # FlashInfer's sampler is compiled at its first use, by a compiler that is not there where CUDA only runs.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    from vllm import LLM

    kv_cache = params.vllm.kv_cache_gib * 2**30
    return LLM(
        model=model,
        dtype=models.COMPUTED[params.precision],
        quantization="bitsandbytes" if params.quantization else None,
        max_model_len=params.vllm.max_model_length,
        max_num_seqs=params.vllm.max_num_seqs,
        max_num_batched_tokens=PREFILL_TOKENS,
        kv_cache_memory_bytes=int(kv_cache),
        # Says here only how much must be free at the start; the default would be nearly all of a card.
        gpu_memory_utilization=kv_cache / torch.cuda.get_device_properties().total_memory,
        enable_sleep_mode=sleep,
        logprobs_mode="processed_logprobs",  # of the distribution that was sampled from, with its temperature
        seed=params.seed,
        trust_remote_code=False,
        **further,
    )
