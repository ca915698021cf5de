"""Completions for training by vLLM in the trainer's process: TRL's VLLMGeneration with our engine.

vLLM has its own copy of the weights.  Before the first generation after an update, the trainer's weights, with the
adapters added, replace this copy.  TRL would merge the adapters into the trained weights and unmerge them again, which
in bfloat16 leaves a rounding error each time.  Here only vLLM gets the sum.
"""

from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from trl.generation.vllm_generation import VLLMGeneration, empty_cache

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models.engine import stop_tokens
from gsm8k_grpo.models.vllm_engine import load_weights, start_vllm
from gsm8k_grpo.stages.train import checkpoints, sharding
from gsm8k_grpo.stages.train.grpo.trainer import TRAINED, ResumableGRPOTrainer


class Rollouts(VLLMGeneration):
    """Generates for a trainer, see `ResumableGRPOTrainer.generate_with`.

    Args:
        base: the base model, which has the shape of the trained one.
    """

    def __init__(self, trainer: ResumableGRPOTrainer, base: str, params: Params):
        assert params.vllm is not None  # engine vllm requires the section
        self.base, self.params, self.trainer = base, params, trainer
        super().__init__(
            model=trainer.model,
            accelerator=trainer.accelerator,
            processing_class=trainer.processing_class,
            max_model_length=params.vllm.max_model_length,
            max_num_seqs=params.vllm.max_num_seqs,
            enable_sleep_mode=params.vllm.sleep,
            temperature=trainer.temperature,
            top_p=trainer.top_p,
            top_k=trainer.top_k,
            min_p=trainer.min_p or 0.0,
            max_completion_length=trainer.max_completion_length,
            generation_kwargs={
                "detokenize": False,
                "flat_logprobs": True,
                "stop_token_ids": stop_tokens(trainer.processing_class),
            },
        )

    def _init_vllm(self) -> None:
        # The weights come from the trainer, so vLLM need not read any.  It caches compiled code by the model's name.
        self.llm = start_vllm(self.base, self.params, sleep=self.enable_sleep_mode, load_format="dummy")
        self._llm_weights_sleeping = self.enable_sleep_mode
        if self.enable_sleep_mode:
            self.llm.sleep(level=2)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        with self.trainer.stopping_generation():
            return super().generate(*args, **kwargs)

    def sync_weights(self) -> None:
        if self.enable_sleep_mode:
            empty_cache()  # vLLM needs the memory that PyTorch has cached
            self.llm.wake_up(tags=["weights"])
            self._llm_weights_sleeping = False
        load_weights(self.llm, merged_weights(self.model))
        torch.cuda.synchronize()  # vLLM may compute in another stream


@torch.no_grad()
def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights with adapters added, under the names that they have without adapters; the model is not changed.

    Weights that are divided between the ranks are gathered one by one, so every rank must take them all.
    PPO's value head is left out, since it is no part of the model that generates.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    adapted: dict[str, Any] = {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}
    for name, parameter in base.named_parameters():
        layer, inside, leaf = name.partition(".base_layer.")
        if inside and leaf == "weight":
            delta = adapted[layer].get_delta_weight(TRAINED)
            yield f"{layer}.{leaf}", (parameter.float() + delta).to(parameter.dtype)
        elif inside:
            yield f"{layer}.{leaf}", parameter
        elif ".lora_" not in name and not name.startswith(f"{checkpoints.HEAD}."):
            yield name, sharding.whole(parameter)
