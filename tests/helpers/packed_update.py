"""The update of a GRPO trainer on a batch of two prompts: its gradients, and how many tokens the model computes."""

from typing import Any

import torch
from datasets import Dataset
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from project import ROOT
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

# Two groups of two: prompts of 2 and 3 tokens, completions of 2, 1, 3 and 2, none of which is an end token.
PROMPTS = torch.tensor([[9, 11, 12], [9, 11, 12], [13, 14, 15], [13, 14, 15]])
PROMPT_MASK = torch.tensor([[0, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]])
COMPLETIONS = torch.tensor([[21, 22, 9], [23, 9, 9], [24, 25, 26], [27, 28, 9]])
COMPLETION_MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])
LORA = Lora(rank=4, alpha=8, targets=["q_proj", "up_proj", "down_proj"])


def settings(prepared, folder, lora: Lora | None = None, **options) -> dict[str, Any]:
    """The arguments of a trainer, with TRL's `options`."""
    torch.manual_seed(0)  # of the adapters
    base = loading.Source(str(prepared / "results/base/model"))
    network, tokenizer = loading.load(base, load(ROOT / "params.yaml"))
    if lora:
        network = loading.adapt(network, lora)
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
    rows = read_jsonl(prepared / "results/extract/train.jsonl")[:4]
    common = {
        "output_dir": str(folder), "use_cpu": True, "bf16": False, "max_steps": 1, "per_device_train_batch_size": 4,
        "num_generations": 2, "max_completion_length": 3, "loss_type": "dapo", "report_to": "none",
        "gradient_checkpointing": False,
    }  # fmt: skip
    return {
        "model": network, "processing_class": tokenizer,
        "reward_funcs": lambda completions, **unused: [float(index % 2) for index in range(len(completions))],
        "args": GRPOConfig(**common | options),
        "train_dataset": Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
    }  # fmt: skip


def batch(advantages: list[float]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {
        "prompt_ids": PROMPTS, "prompt_mask": PROMPT_MASK, "completion_ids": COMPLETIONS,
        "completion_mask": COMPLETION_MASK, "advantages": torch.tensor(advantages),
        "old_per_token_logps": -5 * torch.rand(4, 3), "num_items_in_batch": COMPLETION_MASK.sum(),
    }  # fmt: skip


def gradients(trainer: ResumableGRPOTrainer, inputs: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """The gradient of each trained weight, by its name."""
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.zero_grad()
    trainer.model.train()
    trainer._compute_loss(trainer.model, inputs).backward()
    return {name: weight.grad for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def tokens_per_forward(trainer: ResumableGRPOTrainer, inputs: dict[str, Tensor]) -> list[int]:
    """The number of tokens in each forward pass of the update."""
    tokens: list[int] = []
    embeddings = trainer.model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda module, args, result: tokens.append(args[0].numel()))
    gradients(trainer, inputs)
    hook.remove()
    return tokens


def with_fixed_completions(trainer: Any) -> None:
    """Let one of TRL's trainers generate completions of different lengths, which do not depend on its weights."""

    def generate(prompt_ids: list[list[int]], *unused: Any) -> Any:
        completions = [[21 + row, 22, 23][: 1 + row % 3] for row in range(len(prompt_ids))]
        return (completions, None) if isinstance(trainer, GRPOTrainer) else completions

    trainer._generate_single_turn = generate
