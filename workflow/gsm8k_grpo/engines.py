"""Generation for evaluation: many prompts in, completions out in the same order, by transformers or by vLLM."""

import bisect
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerBase, set_seed

from gsm8k_grpo import models
from gsm8k_grpo.meter import Meter
from gsm8k_grpo.params import Params
from gsm8k_grpo.prompts import Message
from gsm8k_grpo.sections import vllm_rank

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

PREFILL_TOKENS = 8192  # of prompts read at a time

Prompt = list[Message] | str  # messages go through the chat template, a text is given as it is


@dataclass(frozen=True)
class Completion:
    """What a model answered: its text without special tokens, its length, and whether the limit cut it off."""

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Draw:
    """How completions are sampled: so many of each prompt, from the model's whole distribution at a temperature."""

    samples: int
    temperature: float
    seed: int


class Engine(Protocol):
    tokenizer: PreTrainedTokenizerBase
    context: int  # most tokens of a prompt with its completion

    def use(self, source: models.Source) -> None:
        """Answer with another model of the same shape from now on."""

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        """One greedy completion per prompt, of at most `max_completion_length` tokens; `progress` names the bar.

        A completion ends before the text `stop`, too.
        """

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, draw: Draw
    ) -> list[list[Completion]]:
        """Completions of each prompt as `draw` says.

        On a CPU the same seed, prompts and batches give the same completions.
        """


def load(source: models.Source, params: Params) -> Engine:
    """The engine that `engine` names, with a model in it."""
    return (VllmEngine if params.engine == "vllm" else TransformersEngine)(source, params)


class TransformersEngine:
    """transformers' `generate`, in batches of prompts of similar length."""

    def __init__(self, source: models.Source, params: Params):
        self.params, self.batch_size = params, params.evaluate.batch_size
        self.use(source)

    def use(self, source: models.Source) -> None:
        self.model = None  # one model at a time in memory
        self.model, self.tokenizer = models.load(source, self.params)
        self.model.eval()
        self.context = self.model.config.get_text_config().max_position_embeddings

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        stopping = {"stop_strings": [stop], "tokenizer": self.tokenizer} if stop else {}
        answers = self._answers(prompts, 1, progress, stop, max_new_tokens=max_completion_length, **stopping)
        return [one for (one,) in answers]

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, draw: Draw
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
        ids = tokenized(prompts, self.tokenizer)
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]), reverse=True)
        at_a_time = max(1, self.batch_size // each)
        options = {"do_sample": False, "repetition_penalty": 1.0, "num_return_sequences": each} | options
        answers: dict[int, list[Completion]] = {}
        with Meter(total=len(ids), desc=progress, unit="question") as bar:
            for start in range(0, len(order), at_a_time):
                batch = order[start : start + at_a_time]
                rows = self._generate([ids[index] for index in batch], options)
                for place, index in enumerate(batch):
                    own = rows[place * each : (place + 1) * each]
                    answers[index] = [read(row, self.tokenizer, stop) for row in own]
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


class VllmEngine:
    """vLLM in this process; it forms its own batches."""

    def __init__(self, source: models.Source, params: Params):
        self._numbers = itertools.count(1)
        self.tokenizer = models.load_tokenizer(source.model)
        self.context = params.evaluate.max_model_length or params.vllm.max_model_length
        adapters = {"enable_lora": True, "max_lora_rank": vllm_rank(_rank(source.adapter))} if source.adapter else {}
        # vLLM keeps what it compiles under the model's name.  What was trained of a base starts under the base's name
        # and reads its own weights then, half a minute earlier.
        self.llm = start(
            source.base or source.model,
            params,
            max_model_length=self.context,
            load_format="dummy" if source.base else "auto",
            **adapters,
        )
        self.adapter = self._request(source)
        if source.base:
            self.use(source)

    def use(self, source: models.Source) -> None:
        self.adapter = self._request(source)
        if source.adapter is None:
            files = sorted(str(path) for path in Path(source.model).glob("*.safetensors"))
            network(self.llm).load_weights(item for file in files for item in load_file(file).items())
            self.llm.reset_prefix_cache()  # keys and values of the weights before

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        answers = self._answers(prompts, progress, stop, max_tokens=max_completion_length, temperature=0.0)
        return [one for (one,) in answers]

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, draw: Draw
    ) -> list[list[Completion]]:
        set_seed(draw.seed)  # vLLM runs in this process; a seed for each request would have a kernel for each
        drawn = {"n": draw.samples, "temperature": draw.temperature}
        return self._answers(prompts, progress, None, max_tokens=max_completion_length, **drawn)

    def _answers(
        self, prompts: list[Prompt], progress: str, stop: str | None, **options: Any
    ) -> list[list[Completion]]:
        """The completions of each prompt; options are those of vLLM's SamplingParams."""
        from vllm import SamplingParams

        def bar(*args: Any, **options: Any) -> Meter:
            return Meter(*args, **(options | {"desc": progress, "unit": "question"}))

        ends = {"stop_token_ids": stop_tokens(self.tokenizer), "detokenize": stop is not None}
        sampling = SamplingParams(**ends, stop=stop, **options)
        rows = [{"prompt_token_ids": ids} for ids in tokenized(prompts, self.tokenizer)]
        answers = self.llm.generate(rows, sampling, use_tqdm=bar, lora_request=self.adapter)
        return [[read(list(one.token_ids), self.tokenizer, stop) for one in answer.outputs] for answer in answers]

    def _request(self, source: models.Source) -> "LoRARequest | None":
        """vLLM knows an adapter by its number, so that each gets another."""
        if source.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(source.adapter, next(self._numbers), source.adapter)


def _rank(adapter: str) -> int:
    return json.loads((Path(adapter) / "adapter_config.json").read_bytes())["r"]


def network(llm: "LLM") -> nn.Module:
    """The model inside vLLM, which runs in this process."""
    return llm.llm_engine.model_executor.driver_worker.model_runner.model


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a completion: a turn's, and the document's, which base models may give in its place."""
    return sorted({tokenizer.eos_token_id, tokenizer.pad_token_id})


def tokenized(prompts: list[Prompt], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The tokens of each prompt, all texts at once."""
    texts = [
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []  # of none it makes an error


def read(ids: list[int], tokenizer: PreTrainedTokenizerBase, stop: str | None = None) -> Completion:
    """The completion in a row of tokens, of which those after its end or after the text `stop` don't count.

    The token that ends it counts, and is no part of the text; so do those of `stop`.
    """
    ends = set(stop_tokens(tokenizer))
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    kept = ids if end is None else ids[: end + 1]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    if stop is None or stop not in text:
        return Completion(text, len(kept), end is None)
    tokens = bisect.bisect_left(
        range(len(kept)), True, key=lambda count: stop in tokenizer.decode(kept[:count], skip_special_tokens=True)
    )
    return Completion(text.partition(stop)[0], tokens, False)


def start(
    model: str, params: Params, sleep: bool = False, max_model_length: int | None = None, **further: Any
) -> "LLM":
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
        dtype=models.COMPUTED[params.precision],
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
