"""The engine `vllm`: generation by vLLM, in the process of the stage."""

from __future__ import annotations

import atexit
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import set_seed

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Vllm, vllm_rank
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.engine import Completion, Prompt, Sampling, read_completion, stop_tokens, tokenize_prompts
from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.runtime.progress import ProgressBar

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

PREFILL_TOKENS = 8192  # tokens of all prompts that vLLM processes in one step


class VllmEngine:
    """vLLM in this process; it forms its own batches."""

    def __init__(self, source: loading.Source, params: Params):
        self._adapter_ids = itertools.count(1)
        self.tokenizer = loading.load_tokenizer(source.model)
        self.chat_template_kwargs = params.chat_template_kwargs
        self.context = params.evaluate.max_model_length or _settings(params).max_model_length
        adapters: dict[str, Any] = {}
        if source.adapter:
            adapters = {"enable_lora": True, "max_lora_rank": vllm_rank(_rank(source.adapter))}
        # vLLM caches compiled code by the model's name, so it starts as the base model and then loads the tuned
        # weights, which saves about 30 s.
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
            load_weights(self.llm, (item for file in files for item in load_file(file).items()))

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        completions = self._complete(prompts, progress, stop, max_tokens=max_completion_length, temperature=0.0)
        return [completion for (completion,) in completions]

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, sampling: Sampling
    ) -> list[list[Completion]]:
        # vLLM runs in this process, so the global seed reaches it; a seed per request would need a kernel per request.
        set_seed(sampling.seed)
        options = {"n": sampling.samples, "temperature": sampling.temperature}
        return self._complete(prompts, progress, None, max_tokens=max_completion_length, **options)

    def _complete(
        self, prompts: list[Prompt], progress: str, stop: str | None, **options: Any
    ) -> list[list[Completion]]:
        """The completions of each prompt; `options` go to vLLM's SamplingParams."""
        from vllm import SamplingParams

        def progress_bar(*args: Any, **bar_options: Any) -> ProgressBar:
            return ProgressBar(*args, **(bar_options | {"desc": progress, "unit": "question"}))

        ends = {"stop_token_ids": stop_tokens(self.tokenizer), "detokenize": stop is not None}
        sampling = SamplingParams(**ends, stop=stop, **options)
        token_ids = tokenize_prompts(prompts, self.tokenizer, self.chat_template_kwargs)
        inputs = [{"prompt_token_ids": ids} for ids in token_ids]
        results = self.llm.generate(inputs, sampling, use_tqdm=progress_bar, lora_request=self.adapter)
        return [
            [read_completion(list(output.token_ids), self.tokenizer, stop) for output in result.outputs]
            for result in results
        ]

    def _request(self, source: loading.Source) -> LoRARequest | None:
        """The request for an adapter, with a new id, since vLLM caches adapters by their ids."""
        if source.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(source.adapter, next(self._adapter_ids), source.adapter)


def _rank(adapter: str) -> int:
    return json.loads((Path(adapter) / "adapter_config.json").read_bytes())["r"]


def _settings(params: Params) -> Vllm:
    """The section `vllm`, which the configuration requires for engine vllm."""
    assert params.vllm is not None
    return params.vllm


def load_weights(llm: LLM, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Replace all weights of the model inside vLLM.

    Args:
        weights: pairs of name and tensor, as in the model's own checkpoint.

    Raises:
        PipelineError: if no tensor arrives for a weight of vLLM's model.
    """
    # vLLM runs in this process, so the function need not be serialised.
    (missing,) = llm.apply_model(lambda model: _load(model, weights))
    if missing:
        raise PipelineError(
            f"engine = vllm: no weights arrive for {len(missing)} of the tensors in vLLM's model, "
            f"such as {missing[0]}; use engine: transformers"
        )
    llm.reset_prefix_cache()  # its keys and values were computed with the previous weights


def _load(model: Any, weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Load weights into vLLM's model; returns the names of parameters with elements that got no value.

    The names that `load_weights` returns do not tell: for a mixture of experts they differ from the parameters' names.
    """
    parameters = {name: tensor for name, tensor in model.named_parameters() if tensor.is_floating_point()}
    for tensor in parameters.values():
        tensor.data.fill_(torch.nan)
    model.load_weights(weights)
    return [name for name, tensor in parameters.items() if tensor.isnan().any()]


def start_vllm(
    model: str, params: Params, sleep: bool = False, max_model_length: int | None = None, **options: Any
) -> LLM:
    """Start vLLM in this process.

    Args:
        model: a folder or the name of a model on the hub.
        params: the configuration; its `vllm.kv_cache_gib` is the memory that vLLM takes in addition to the weights,
            instead of a share of the whole GPU.
        sleep: whether vLLM can release its memory between generations.
        max_model_length: maximum tokens of a prompt with its completion; by default `vllm.max_model_length`.
        options: further arguments of vLLM's LLM.
    """
    settings = _settings(params)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # FlashInfer compiles its sampler at the first use, which fails where only CUDA's runtime is installed.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    from vllm import LLM

    atexit.register(ranks.leave_group)
    kv_cache = settings.kv_cache_gib * 2**30
    return LLM(
        model=model,
        dtype=loading.COMPUTED[params.precision],
        quantization="bitsandbytes" if params.quantization else None,
        max_model_len=max_model_length or settings.max_model_length,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=PREFILL_TOKENS,
        kv_cache_memory_bytes=int(kv_cache),
        # With kv_cache_memory_bytes this only sets how much must be free at the start; the default is most of the GPU.
        gpu_memory_utilization=kv_cache / torch.cuda.get_device_properties().total_memory,
        enable_sleep_mode=sleep,
        logprobs_mode="processed_logprobs",  # of the distribution that is sampled from, with temperature
        seed=params.seed + ranks.rank(),
        # Each rank has an engine of its own, so the engine must not use the process group that connects the ranks.
        distributed_executor_backend="external_launcher" if ranks.count() > 1 else None,
        trust_remote_code=False,
        **options,
    )
