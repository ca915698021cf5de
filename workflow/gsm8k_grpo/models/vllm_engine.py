"""Generation by vLLM, in the process of the stage."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import set_seed

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import vllm_rank
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.engine import Completion, Prompt, Sampling, read_completion, stop_tokens, tokenize_prompts
from gsm8k_grpo.runtime.progress import ProgressBar

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

PREFILL_TOKENS = 8192  # of prompts read at a time


class VllmEngine:
    """vLLM in this process; it forms its own batches."""

    def __init__(self, source: loading.Source, params: Params):
        self._numbers = itertools.count(1)
        self.tokenizer = loading.load_tokenizer(source.model)
        self.context = params.evaluate.max_model_length or params.vllm.max_model_length
        adapters = {"enable_lora": True, "max_lora_rank": vllm_rank(_rank(source.adapter))} if source.adapter else {}
        # vLLM keeps what it compiles under the model's name.  What was trained of a base starts under the base's name
        # and reads its own weights then, half a minute earlier.
        self.llm = start_vllm(
            source.base or source.model,
            params,
            max_model_length=self.context,
            load_format="dummy" if source.base else "auto",
            **adapters,
        )
        self.adapter = self._request(source)
        if source.base:
            self.use(source)

    def use(self, source: loading.Source) -> None:
        self.adapter = self._request(source)
        if source.adapter is None:
            files = sorted(str(path) for path in Path(source.model).glob("*.safetensors"))
            vllm_model(self.llm).load_weights(item for file in files for item in load_file(file).items())
            self.llm.reset_prefix_cache()  # keys and values of the weights before

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        answers = self._answers(prompts, progress, stop, max_tokens=max_completion_length, temperature=0.0)
        return [one for (one,) in answers]

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, draw: Sampling
    ) -> list[list[Completion]]:
        set_seed(draw.seed)  # vLLM runs in this process; a seed for each request would have a kernel for each
        drawn = {"n": draw.samples, "temperature": draw.temperature}
        return self._answers(prompts, progress, None, max_tokens=max_completion_length, **drawn)

    def _answers(
        self, prompts: list[Prompt], progress: str, stop: str | None, **options: Any
    ) -> list[list[Completion]]:
        """The completions of each prompt; options are those of vLLM's SamplingParams."""
        from vllm import SamplingParams

        def bar(*args: Any, **options: Any) -> ProgressBar:
            return ProgressBar(*args, **(options | {"desc": progress, "unit": "question"}))

        ends = {"stop_token_ids": stop_tokens(self.tokenizer), "detokenize": stop is not None}
        sampling = SamplingParams(**ends, stop=stop, **options)
        rows = [{"prompt_token_ids": ids} for ids in tokenize_prompts(prompts, self.tokenizer)]
        answers = self.llm.generate(rows, sampling, use_tqdm=bar, lora_request=self.adapter)
        return [
            [read_completion(list(one.token_ids), self.tokenizer, stop) for one in answer.outputs] for answer in answers
        ]

    def _request(self, source: loading.Source) -> LoRARequest | None:
        """vLLM knows an adapter by its number, so that each gets another."""
        if source.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(source.adapter, next(self._numbers), source.adapter)


def _rank(adapter: str) -> int:
    return json.loads((Path(adapter) / "adapter_config.json").read_bytes())["r"]


def vllm_model(llm: LLM) -> nn.Module:
    """The model inside vLLM, which runs in this process."""
    return llm.llm_engine.model_executor.driver_worker.model_runner.model


def start_vllm(
    model: str, params: Params, sleep: bool = False, max_model_length: int | None = None, **further: Any
) -> LLM:
    """vLLM in this process, with the model of a folder or of the hub; `further` goes to vLLM's LLM.

    `max_model_length` is that of training where not given.  The share of the card that vLLM would take for itself is
    not used: `kv_cache_gib` says what it takes beside the weights.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # FlashInfer's sampler is compiled at its first use, by a compiler that is not there where CUDA only runs.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    from vllm import LLM

    kv_cache = params.vllm.kv_cache_gib * 2**30
    return LLM(
        model=model,
        dtype=loading.COMPUTED[params.precision],
        quantization="bitsandbytes" if params.quantization else None,
        max_model_len=max_model_length or params.vllm.max_model_length,
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
