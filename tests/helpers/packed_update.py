"""The update of a GRPO trainer on a batch: its gradients, and how many tokens the model computes."""

from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from torch import Tensor


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
