"""TRL's GRPOTrainer, unchanged in what it computes: it also says where the time goes, stops at a figure that is no
number, and writes checkpoints that a run can go on from at any step, with the same bytes as if it had not stopped.
"""

import math
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from safetensors.torch import load_file, save_file
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import RepeatSampler

from gsm8k_grpo import checkpoints
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.rewards import SUFFIX

GENERATION = "generation.safetensors"
TRAINED = "default"  # peft's name of the adapter that is trained
WATCHED = ("loss", "grad_norm", "reward")


class EpochSampler(RepeatSampler):
    """TRL's sampler, with an order of each epoch that the epoch's number alone tells.

    TRL's own draws an order an epoch from one generator: a resumed run would begin with the first epoch's again.
    """

    def set_epoch(self, epoch: int) -> None:
        self.generator.manual_seed(self.seed)
        for _ in range(epoch):
            torch.randperm(self.num_samples, generator=self.generator)


class Trainer(GRPOTrainer):
    """Adds `seconds_generate`, `seconds_score` and `seconds_update` to every step's log, and `latest`.

    `latest` holds the last generation batch: its prompts, completions and rewards, a row a completion, in
    groups of `num_generations` rows per prompt.  Rewards have shape (completions, reward functions).
    `savers` write into the folder of each checkpoint; `seconds_saving` is what checkpoints took in all.
    """

    latest: tuple[list[Any], list[Any], torch.Tensor]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for parameter in self.model.parameters():
            # TRL brings the adapters of a quantised model to bfloat16, which rounds a step of 5e-6 away.
            if parameter.requires_grad and is_peft_model(self.model):
                parameter.data = parameter.data.float()
        self.savers: list[Callable[[Path], None]] = []
        self.seconds_saving = 0.0
        self._seconds = {"seconds_generate": 0.0, "seconds_score": 0.0}
        self._step_began = 0.0

    def generate_with(self, rollouts: VLLMGeneration, corrected: bool) -> None:
        """Generate by vLLM; the loss is `corrected` for what vLLM computes differently, or it is not, see TRL."""
        self.use_vllm, self.vllm_generation, self._last_loaded_step = True, rollouts, None
        self.vllm_importance_sampling_correction = corrected

    def train(self, resume_from_checkpoint: Path | None = None):
        if resume_from_checkpoint is None:
            return super().train()
        self._load_generation(resume_from_checkpoint)
        return super().train(resume_from_checkpoint=str(resume_from_checkpoint))

    def training_step(self, *args, **kwargs):
        self._step_began = self._step_began or time.perf_counter()
        return super().training_step(*args, **kwargs)

    def log(self, logs, start_time=None):
        for name in WATCHED:
            if not math.isfinite(logs.get(name, 0.0)):
                raise self._not_a_number(self.state.global_step, name, logs[name])
        if self._step_began:
            total = time.perf_counter() - self._step_began
            logs |= self._seconds | {"seconds_update": total - sum(self._seconds.values())}
            self._seconds = dict.fromkeys(self._seconds, 0.0)
            self._step_began = 0.0
        super().log(logs, start_time)

    def checkpoint_size(self) -> int:
        """Bytes of a checkpoint: the trained tensors, and what the optimizer remembers of each."""
        states = self.optimizer.state.values() if self.optimizer else ()
        remembered = [value for state in states for value in state.values() if torch.is_tensor(value)]
        return self.weights_size() + sum(tensor.nbytes for tensor in remembered)

    def weights_size(self) -> int:
        return sum(parameter.nbytes for parameter in self.model.parameters() if parameter.requires_grad)

    def save_weights(self, folder: Path) -> None:
        """The model and its tokenizer, and no pickle: transformers' copy of its arguments is one."""
        self.save_model(str(folder))
        (folder / "training_args.bin").unlink()
        shutil.rmtree(folder / checkpoints.REFERENCE, ignore_errors=True)

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
        with self._timed("seconds_generate"):
            return super()._generate(prompts)

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        with self._timed("seconds_score"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        weighted = rewards * self.reward_weights.to(rewards.device)
        for name, column in zip(self.reward_func_names, weighted.T, strict=True):
            if not column.isfinite().all():
                value = column[~column.isfinite()][0].item()
                what = f"reward {name.removesuffix(SUFFIX)} times its weight"
                raise self._not_a_number(self.state.global_step + 1, what, value)
        self.latest = (prompts, completions, rewards)
        return rewards

    def _save_checkpoint(self, model, trial):
        run = Path(self.args.output_dir)
        folder = run / f"checkpoint-{self.state.global_step}"
        began = time.perf_counter()
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():
                raise self._not_a_number(self.state.global_step, f"a weight of {name}", float("nan"))
        with checkpoints.writing(run, folder, self.checkpoint_size()):
            super()._save_checkpoint(model, trial)
            self._save_generation(folder)
            for save in self.savers:
                save(folder)
            checkpoints.seal(folder)
        self.seconds_saving += time.perf_counter() - began

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if (Path(resume_from_checkpoint) / checkpoints.REFERENCE).exists():
            # Where there is a folder with an adapter, transformers loads that one alone, and not the trained one.
            self.model.load_adapter(resume_from_checkpoint, TRAINED, is_trainable=True)

    def _save_generation(self, folder: Path) -> None:
        """A checkpoint amid the steps that one generation serves holds that generation's batches too."""
        if self._step % (self.args.steps_per_generation * self.num_iterations):
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

    def _not_a_number(self, step: int, what: str, value: float) -> PipelineError:
        before = checkpoints.newest(Path(self.args.output_dir))
        return PipelineError(
            f"step {step}: {what} is {value}; training stopped before it was saved. "
            f"{f'{before} is the last good checkpoint' if before else 'There is no checkpoint yet'}. "
            "A lower train.learning_rate or train.max_grad_norm, or other rewards, may help"
        )

    @contextmanager
    def _timed(self, name: str):
        began = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - began
