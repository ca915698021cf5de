"""TRL's GRPOTrainer, unchanged in what it computes: it also says where the time goes, stops at a figure that is no
number, and writes checkpoints that a run can go on from at any step, with the same bytes as if it had not stopped.
"""

import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import RepeatSampler

from gsm8k_grpo.gsm8k.rewards import SUFFIX
from gsm8k_grpo.stages.train import checkpoints
from gsm8k_grpo.stages.train.resumable import ResumableMixin

GENERATION = "generation.safetensors"
TRAINED = "default"  # peft's name of the adapter that is trained


class EpochSampler(RepeatSampler):
    """TRL's sampler, with an order of each epoch that the epoch's number alone tells.

    TRL's own draws an order an epoch from one generator: a resumed run would begin with the first epoch's again.
    """

    def set_epoch(self, epoch: int) -> None:
        self.generator.manual_seed(self.seed)
        for _ in range(epoch):
            torch.randperm(self.num_samples, generator=self.generator)


class ResumableGRPOTrainer(ResumableMixin, GRPOTrainer):
    """Adds `latest`, the last generation batch: its prompts, completions and rewards, a row a completion, in groups of
    `num_generations` rows per prompt.  Rewards have shape (completions, reward functions).
    """

    remedies = "A lower train.learning_rate or train.max_grad_norm, or other rewards, may help"
    latest: tuple[list[Any], list[Any], torch.Tensor]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.ref_model is not None:
            # TRL loads the reference in 32 bit whatever the trained weights are in: twice the memory in 16.
            self.ref_model.to(self.model.dtype)
        self.savers.append(self._save_generation)

    @property
    def steps_served(self) -> int:
        """Batches that one generation serves."""
        return self.args.steps_per_generation * self.num_iterations

    def generate_with(self, rollouts: VLLMGeneration, corrected: bool) -> None:
        """Generate by vLLM; the loss is `corrected` for what vLLM computes differently, or it is not, see TRL."""
        self.use_vllm, self.vllm_generation, self._last_loaded_step = True, rollouts, None
        self.vllm_importance_sampling_correction = corrected

    def train(self, resume_from_checkpoint: Path | None = None):
        if resume_from_checkpoint is not None:
            self._load_generation(resume_from_checkpoint)
        return super().train(resume_from_checkpoint)

    def _get_train_sampler(self, dataset=None):
        theirs = super()._get_train_sampler(dataset)
        return EpochSampler(
            theirs.data_source,
            mini_repeat_count=theirs.mini_repeat_count,
            batch_size=theirs.batch_size,
            repeat_count=theirs.repeat_count,
            shuffle=theirs.shuffle,
            seed=theirs.seed,
        )

    def _generate(self, prompts):
        # TRL has transformers generate without the autocast of the update, which adapters in 32 bit on weights in 16
        # need; what samples and what is updated should compute alike anyway.
        computing = nullcontext() if self.use_vllm else self.accelerator.autocast()
        with self._timed("seconds_generate"), computing:
            return super()._generate(prompts)

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        with self._timed("seconds_score"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        weighted = rewards * self.reward_weights.to(rewards.device)
        for name, column in zip(self.reward_func_names, weighted.T, strict=True):
            if not column.isfinite().all():
                value = column[~column.isfinite()][0].item()
                what = f"reward {name.removesuffix(SUFFIX)} times its weight"
                raise self.not_a_number(self.state.global_step + 1, what, value)
        self.latest = (prompts, completions, rewards)
        return rewards

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if (Path(resume_from_checkpoint) / checkpoints.REFERENCE).exists():
            # Where there is a folder with an adapter, transformers loads that one alone, and not the trained one.
            self.model.load_adapter(resume_from_checkpoint, TRAINED, is_trainable=True)

    def _save_generation(self, folder: Path) -> None:
        """A checkpoint amid the steps that one generation serves holds that generation's batches too."""
        if self._step % self.steps_served:
            batches = enumerate(self._buffered_inputs)
            tensors = {f"{i}.{key}": value for i, batch in batches for key, value in batch.items() if value is not None}
            save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / GENERATION)

    def _load_generation(self, folder: Path) -> None:
        step = int(checkpoints.NAME.fullmatch(folder.name)[1])
        self._step = step * self.args.gradient_accumulation_steps
        if not (folder / GENERATION).exists():
            return
        self._buffered_inputs = [{} for _ in range(self.args.steps_per_generation)]
        for name, tensor in load_file(folder / GENERATION, device=str(self.accelerator.device)).items():
            index, key = name.split(".", 1)
            self._buffered_inputs[int(index)][key] = tensor

    @contextmanager
    def _timed(self, name: str):
        began = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - began
