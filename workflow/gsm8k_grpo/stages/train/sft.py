"""Supervised fine-tuning, the method `sft`: TRL's SFTTrainer on the answers of the rows that GRPO would be trained on.

The loss is on the answer and the token that ends it; the question is read and not learned.  An answer of GSM8K is
written as the system prompt asks, its work and its number between the tags; a free answer stands as it was given.
"""

import math
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import SFTConfig, SFTTrainer

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, write_jsonl
from gsm8k_grpo.gsm8k.solutions import tagged_solution, work_of
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.train.resumable import ResumableMixin, arguments

SHOWN = {"loss": "loss", "completions/mean_length": "tokens"}
EFFECTIVE = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "adam_beta1", "adam_beta2", "weight_decay",
    "max_grad_norm", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "loss_type", "packing",
    "seed", "bf16", "fp16", "gradient_checkpointing",
)  # fmt: skip
IGNORED = -100  # PyTorch's label of a token without a loss
THINKS, THOUGHT = "<think>", "</think>"


class ResumableSFTTrainer(ResumableMixin, SFTTrainer):
    """Logs `prompts_seen`, and the length of an answer and the tokens so far under GRPO's names."""

    remedies = "A lower sft.learning_rate or sft.max_grad_norm may help"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Nothing is sampled: the file is there, and empty.
        self.savers.append(lambda folder: write_jsonl(folder / "samples.jsonl", []))
        self._answers = self._answer_tokens = 0

    def training_step(self, model, inputs, *args, **kwargs):
        self._answers += len(inputs["labels"])
        self._answer_tokens += (inputs["labels"] != IGNORED).sum()
        return super().training_step(model, inputs, *args, **kwargs)

    def log(self, logs, start_time=None):
        if self._answers:
            logs["completions/mean_length"] = float(self._answer_tokens / self._answers)
            logs["prompts_seen"] = self._prompts_seen(self.state.global_step)
            # TRL counts anew where a run goes on.
            self._metrics["train"]["num_tokens"] = [self.state.num_input_tokens_seen]
            self._answers = self._answer_tokens = 0
        super().log(logs, start_time)

    def _prompts_seen(self, step: int) -> int:
        """Rows that the steps so far trained on; the last step of an epoch takes what is left."""
        rows, args = len(self.train_dataset), self.args
        batches = math.ceil(rows / args.per_device_train_batch_size)
        epochs, steps = divmod(step, math.ceil(batches / args.gradient_accumulation_steps))
        a_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
        return epochs * rows + min(steps * a_step, rows)


def build_trainer(
    rows: list[dict[str, Any]], variant: str, model: str, params: Params, run_folder: Path
) -> ResumableSFTTrainer:
    """The trainer of a variant on rows of extract; `model` is the base model's name or folder."""
    network, tokenizer = loading.load(loading.Source(model), params)
    learned = tokenize(rows, tokenizer, params)
    made = ResumableSFTTrainer(
        model=loading.adapt(network, params.lora) if params.lora else network,
        processing_class=tokenizer,
        args=_config(variant, params, run_folder),
        train_dataset=Dataset.from_list(learned),
    )
    made.remove_callback(PrinterCallback)  # the bar says it
    return made


def target(row: dict[str, Any], params: Params) -> str:
    """What a model is to answer to a row of extract."""
    if params.extract.answers == "free":
        return row["solution"]
    return tagged_solution(work_of(row["solution"]), row["answer"])


def tokenize(rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, params: Params) -> list[dict[str, Any]]:
    """`input_ids` and `labels` of each row: prompt, answer and its end token, labels on the latter two alone.

    Done here, as TRL renders a whole conversation, which the templates of reasoning models do otherwise than the prompt
    that they answer to: its thoughts are left out.  Answers are cut at `sft.max_length` tokens, which is said.

    Raises:
        PipelineError: where a prompt leaves no room for its answer.
    """
    longest, learned, cut = params.sft.max_length, [], 0
    for row in rows:
        prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        answer = _after(prompt, target(row, params)) + tokenizer.eos_token
        before, after = tokenizer([prompt, answer], add_special_tokens=False)["input_ids"]
        if len(before) >= longest:
            raise PipelineError(
                f"sft.max_length = {longest}: the prompt of {row['id']} alone has {len(before)} tokens; "
                "give more, or take the row out"
            )
        cut += len(before) + len(after) > longest
        ids, labels = before + after, [IGNORED] * len(before) + after
        learned.append({"input_ids": ids[:longest], "labels": labels[:longest]})
    if cut:
        print(f"sft.max_length = {longest}: {cut} of {len(rows)} answers are longer and were cut", file=sys.stderr)
    return learned


def _after(prompt: str, answer: str) -> str:
    """The answer as it goes on from the prompt: where that has opened a thought, the thought is closed first.

    An answer that brings its own thoughts has them there, whether it opens them or not.
    """
    if not prompt.rstrip().endswith(THINKS):
        return answer
    if THOUGHT in answer:
        return answer.lstrip().removeprefix(THINKS).lstrip("\n")
    return f"\n{THOUGHT}\n\n{answer}"


def _config(variant: str, params: Params, run_folder: Path) -> SFTConfig:
    """TRL's configuration: the section `sft` under TRL's own names, and what every trainer is told."""
    return SFTConfig(
        **params.sft.model_dump(exclude={"warmup_ratio"}),
        **arguments(variant, params, run_folder, params.sft.warmup_ratio),
        include_num_input_tokens_seen="non_padding",
    )


def effective_config(made: ResumableSFTTrainer) -> dict[str, Any]:
    """What TRL really runs with, read back from the trainer."""
    args = made.args.to_dict()
    return {key: args[key] for key in EFFECTIVE} | {"trainer": "SFTTrainer"}
