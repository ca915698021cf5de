"""A subclass of TRL's GRPOTrainer that computes the same.

It also measures time, stops when a value is not finite, and writes checkpoints at any step, from which a resumed run
ends with the same bytes as an uninterrupted one.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from gsm8k_grpo.gsm8k.rewards import EQUAL, SUFFIX
from gsm8k_grpo.models.engine import stop_tokens, up_to_stop
from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.stages.train import checkpoints, parallel, sharding
from gsm8k_grpo.stages.train.grpo.objective import GRPO, Objective
from gsm8k_grpo.stages.train.resumable import ResumableMixin

TRAINED = "default"  # peft's name of the adapter that is trained


class EpochSampler(RepeatSampler):
    """TRL's sampler, with an order of the prompts that depends on the seed and the number of the epoch only.

    TRL draws the order of each epoch from one generator, so a resumed run would repeat the order of the first epoch.
    accelerate gives the ranks consecutive parts of a generation, so its prompts are ordered by rank: each rank gets its
    share of the first optimizer step, then of the second, and so on.  A step then has the same prompts for any number
    of ranks.

    Args:
        steps: optimizer steps of one iteration over a generation.
    """

    seed: int

    def __init__(self, *args: Any, steps: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.steps = steps

    def __iter__(self) -> Iterator[int]:
        count = self.num_samples
        order = torch.randperm(count, generator=self.generator) if self.shuffle else torch.arange(count)
        for prompts in order.split(self.batch_size):
            if len(prompts) == self.batch_size:
                by_rank = prompts.view(self.steps, ranks.count(), -1).transpose(0, 1).flatten()
                yield from by_rank.repeat_interleave(self.mini_repeat_count).repeat(self.repeat_count).tolist()

    def set_epoch(self, epoch: int) -> None:
        self.generator.manual_seed(self.seed)
        for _ in range(epoch):
            torch.randperm(self.num_samples, generator=self.generator)


class ResumableGRPOTrainer(ResumableMixin, GRPOTrainer):
    """GRPOTrainer whose checkpoints hold the generation that training is in the middle of.

    Args:
        objective: the method's advantages and loss; GRPO's by default.
        sampled: the ratio of the loss is to the probabilities that the engine sampled with, rather than to those that
            the trainer computes after the generation.  It then corrects both for the updates since the generation and
            for the difference between engine and trainer, and a forward pass is saved.

    Attributes:
        latest: prompts, completions and rewards of the last generation, one row per completion, in groups of
            `num_generations` rows per prompt.  Rewards have the shape (completions, reward functions).
    """

    remedies = "A lower train.learning_rate or train.max_grad_norm, or other rewards, may help"
    objective: Objective
    latest: tuple[list[Any], list[Any], Tensor]
    args: GRPOConfig
    num_generations: int
    max_completion_length: int
    processing_class: PreTrainedTokenizerBase
    _buffered_inputs: list[dict[str, Any]] | None  # type: ignore[assignment]  # TRL's has no type and begins as None

    def __init__(self, *args: Any, objective: Objective = GRPO, sampled: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.objective, self.sampled = objective, sampled
        self._leaves_out_logps = self._leaves_out_old = False
        if self.ref_model is not None:
            # TRL loads the reference in 32 bit, which takes twice the memory where the trained weights are in 16 bit.
            self.ref_model.to(self.model.dtype)  # type: ignore[arg-type]  # transformers wraps Module.to
            if sharding.is_sharded(self.model):
                sharding.shard(self.ref_model, self.accelerator.device, bool(self.args.bf16))
        self.mask_truncated_completions = False  # TRL knows only the tokenizer's end token; `generated` masks
        self.rank_savers.append(self._save_generation)
        self._stop_tokens = stop_tokens(self.processing_class)
        self.objective.prepare(self)

    @property
    def batches(self) -> int:
        """The number of batches into which a generation is split."""
        return self.args.steps_per_generation  # type: ignore[return-value]  # GRPOConfig replaces None

    @property
    def batches_per_generation(self) -> int:
        """The number of batches that one generation serves, over all its iterations."""
        return self.batches * self.num_iterations

    @property
    def computes_old_logps(self) -> bool:
        """Whether TRL, right after a generation, asks for the log-probabilities before the update.

        It does if other steps may come between the generation and an update on it, or if the loss corrects for the
        engine.
        """
        corrects = self.use_vllm and self.vllm_importance_sampling_correction
        return corrects or self.args.gradient_accumulation_steps % self.batches_per_generation != 0

    def generate_with(self, rollouts: Any, corrected: bool) -> None:
        """Generate with an engine other than transformers.

        Args:
            rollouts: TRL's VLLMGeneration, or what generates in its place.
            corrected: multiply the loss by TRL's importance ratio between the trainer's probabilities and those that
                the engine sampled with.
        """
        self.use_vllm, self.vllm_generation, self._last_loaded_step = True, rollouts, -1
        self.vllm_importance_sampling_correction = corrected and self.objective.needs_logps

    def weighted_rewards(self) -> Tensor:
        """(completions,) the weighted sum of each completion's rewards, of the last generation."""
        return (self.latest[2] * self.reward_weights.to(self.latest[2].device)).sum(1)

    def train_from(self, checkpoint: Path | None) -> None:
        if checkpoint is not None:
            self._load_generation(checkpoint)
        super().train_from(checkpoint)

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        sampler: Any = super()._get_train_sampler(dataset)
        return EpochSampler(
            sampler.data_source,
            mini_repeat_count=sampler.mini_repeat_count,
            batch_size=sampler.batch_size,
            repeat_count=sampler.repeat_count,
            shuffle=sampler.shuffle,
            seed=sampler.seed,
            steps=self.batches // self.args.gradient_accumulation_steps,
        )

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, ...]:
        # TRL renders a prompt again for each of its completions.  These are consecutive, so once per group is enough.
        groups = [(prompt, len(list(copies))) for prompt, copies in groupby(prompts)]
        ids, images, fields = super()._tokenize_prompts([prompt for prompt, _ in groups])
        return [one for one, (_, copies) in zip(ids, groups, strict=True) for _ in range(copies)], images, fields

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        # TRL lets transformers generate without the autocast of the update.  Adapters in 32 bit on weights in 16 bit
        # need it, and sampling should compute as the update does.
        autocast = nullcontext() if self.use_vllm else self.accelerator.autocast()
        with self._timed("seconds_generate"), autocast:
            generated = super()._generate(prompts)
        # TRL counts a completion as cut off unless it ends with the tokenizer's end or padding token.
        self._cut_off = torch.tensor([ids[-1] not in self._stop_tokens for ids in generated[1]])
        self._metrics["train"]["completions/clipped_ratio"][-1] = parallel.mean(self._cut_off.float().mean().item())
        return generated

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, has_tool_images: bool = False
    ) -> tuple[list[list[int]], Any]:
        if self.use_vllm:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, has_tool_images)
        with self.stopping_generation(), sharding.gathered(self.model):
            completions, logps = super()._generate_single_turn(prompt_ids, images, multimodal_fields, has_tool_images)
        # TRL cuts at the tokenizer's end token only; after other stop tokens comes the padding of the batch.
        return [up_to_stop(ids, self._stop_tokens) for ids in completions], logps

    def stopping_generation(self) -> AbstractContextManager[None]:
        """The context `stopping_at_once`; one that does nothing if a step has begun, whose gradients so far would be
        lost, or if there are other ranks, which would wait for this one.
        """
        began = self._step % self.args.gradient_accumulation_steps
        return nullcontext() if began or ranks.count() > 1 else self.stopping_at_once()

    def _calculate_rewards(
        self, inputs: list[Any], prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> Tensor:
        with self._timed("seconds_score"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        weighted = rewards * self.reward_weights.to(rewards.device)
        for name, column in zip(self.reward_func_names, weighted.T, strict=True):
            if not column.isfinite().all():
                value = column[~column.isfinite()][0].item()
                what = f"reward {name.removesuffix(SUFFIX)} times its weight"
                raise self.not_finite(self.state.global_step + 1, what, value)
        # TRL returns the rewards of all ranks, which have equally many completions, in the order of the ranks.
        of_this_rank = rewards[len(completions) * ranks.rank() :][: len(completions)]
        self.latest = (prompts, completions, of_this_rank)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return self.objective.scored(self, self.generated(inputs))

    def generated(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's tensors of a generation, in the order of the prompts, see `Objective.scored`."""
        takes_sampled = self.sampled and self.objective.needs_logps
        self._leaves_out_logps = not self.objective.needs_logps
        self._leaves_out_old = takes_sampled and self.computes_old_logps
        generated = super()._generate_and_score_completions(inputs)
        self._leaves_out_logps = False
        if takes_sampled:
            generated["old_per_token_logps"] = generated["sampling_per_token_logps"]
        if self.args.mask_truncated_completions:
            mask = generated["completion_mask"] * ~self._cut_off.to(generated["completion_mask"].device)[:, None]
            generated |= {"completion_mask": mask, "num_items_in_batch": parallel.total_of(mask.sum())}
        self._metrics["train"]["frac_reward_zero_std"][-1] = self._equal_groups()
        return generated

    def _equal_groups(self) -> float:
        """The share of groups whose completions all have the same total reward.

        TRL takes the standard deviation of a group instead, which rounding keeps above zero, or that of the whole batch
        where advantages are divided by it.
        """
        totals = self.weighted_rewards().view(-1, self.num_generations)
        equal = totals.amax(1) - totals.amin(1) <= EQUAL
        return parallel.mean(equal.float().mean().item())

    def _is_left_out(self) -> bool:
        """Whether the call for log-probabilities that TRL is making needs no answer; asked once for each call."""
        left_out, self._leaves_out_old = self._leaves_out_old or self._leaves_out_logps, False
        return left_out

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        if self._is_left_out():
            return None, None, None
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return self.objective.loss(self, model, inputs)

    def grpo_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of TRL's GRPOTrainer."""
        return super()._compute_loss(model, inputs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if (Path(resume_from_checkpoint) / checkpoints.REFERENCE).exists():
            # If a checkpoint has a folder with an adapter, transformers loads that adapter and not the trained one.
            self.model.load_adapter(resume_from_checkpoint, TRAINED, is_trainable=True)

    def _save_generation(self, checkpoint: Path) -> None:
        """Save the batches of the current generation, unless the next step starts a new one."""
        if self._step % self.batches_per_generation and self._buffered_inputs is not None:
            batches = enumerate(self._buffered_inputs)
            tensors = {f"{i}.{key}": value for i, batch in batches for key, value in batch.items() if value is not None}
            save_file({name: tensor.clone() for name, tensor in tensors.items()}, checkpoint / _generation_file())

    def _load_generation(self, checkpoint: Path) -> None:
        self._step = checkpoints.step_of(checkpoint) * self.args.gradient_accumulation_steps
        file = checkpoint / _generation_file()
        if not file.exists():
            return
        batches: list[dict[str, Tensor]] = [{} for _ in range(self.batches)]
        for name, tensor in load_file(file).items():
            index, key = name.split(".", 1)
            batches[int(index)][key] = tensor.to(self.accelerator.device)
        self._buffered_inputs = batches

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - began


def _generation_file() -> str:
    """The file in a checkpoint that holds the generation of this rank."""
    return f"generation_{ranks.rank()}.safetensors" if ranks.rank() else "generation.safetensors"
