"""Supervised fine-tuning: TRL's SFTTrainer on the solutions of the rows that GRPO would be trained on.

The loss is on the solution and its end token, not on the question.  A solution of GSM8K is written as the system prompt
asks for it, with its work and its number between the tags; a free answer is used as it is.
"""

import sys
from pathlib import Path
from typing import Any, TypedDict

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import SFTConfig, SFTTrainer

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, write_jsonl
from gsm8k_grpo.gsm8k.solutions import formatted_solution, work_of
from gsm8k_grpo.models import engine, loading
from gsm8k_grpo.models.compiling import compile_layers
from gsm8k_grpo.records import Example
from gsm8k_grpo.stages.train import parallel, sharding
from gsm8k_grpo.stages.train.resumable import ResumableMixin, arguments

IGNORED = -100  # PyTorch's label for a token that the loss ignores
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


class TokenizedSolution(TypedDict):
    """Prompt and solution as tokens; `labels` are `input_ids`, with `IGNORED` for the prompt."""

    input_ids: list[int]
    labels: list[int]


class ResumableSFTTrainer(ResumableMixin, SFTTrainer):
    """SFTTrainer that logs the mean length of a solution and the number of tokens so far under GRPO's names."""

    remedies = "A lower sft.learning_rate or sft.max_grad_norm may help"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Supervised fine-tuning samples no completions, but every method writes samples.jsonl.
        self.savers.append(lambda checkpoint: write_jsonl(checkpoint / "samples.jsonl", []))
        self._solutions = 0  # since the last log entry
        self._solution_tokens = torch.tensor(0)

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        self._solutions += len(inputs["labels"])
        self._solution_tokens = self._solution_tokens + (inputs["labels"] != IGNORED).sum()
        return super().training_step(model, inputs, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._solutions:
            tokens = parallel.total(float(self._solution_tokens))
            logs["completions/mean_length"] = tokens / parallel.total(self._solutions)
            # TRL's own count begins at zero in a resumed run.
            self._metrics["train"]["num_tokens"] = [self.state.num_input_tokens_seen]
            self._solutions, self._solution_tokens = 0, torch.tensor(0)
        super().log(logs, start_time)


def build_trainer(
    rows: list[Example], variant: str, start: loading.Source, params: Params, run_folder: Path
) -> ResumableSFTTrainer:
    """The trainer of a variant, see `TrainingMethod.build_trainer`."""
    sharded = params.is_sharded(variant)
    network, tokenizer = loading.load(start.without_adapter(), params, to_gpu=not sharded)
    loading.keep_end_tokens(network, tokenizer)
    solutions = tokenize_solutions(rows, tokenizer, params)
    args = _config(variant, params, run_folder)
    if sharded:
        sharding.shard(network, args.device, bool(args.bf16))
    trainer = ResumableSFTTrainer(
        model=loading.adapt(network, params.lora, start.adapter) if params.lora else network,
        processing_class=tokenizer,
        args=args,
        train_dataset=Dataset.from_list(solutions),
    )
    trainer.remove_callback(PrinterCallback)  # the progress bar shows the log instead
    if params.sft.compile:
        compile_layers(network)
    return trainer


def target(row: Example, params: Params) -> str:
    """The answer that the model is trained to give."""
    if params.extract.answers == "free":
        return row["solution"]
    assert row["answer"] is not None  # only free answers may lack a number
    return formatted_solution(work_of(row["solution"]), row["answer"], params.extract.answer_form)


def tokenize_solutions(
    rows: list[Example], tokenizer: PreTrainedTokenizerBase, params: Params
) -> list[TokenizedSolution]:
    """Each row as the tokens of its prompt, its solution and an end token, with labels on the last two.

    TRL would render the whole conversation with the chat template.  The templates of reasoning models render a whole
    conversation differently from the prompt at generation: they leave out the thoughts of earlier turns.  So the prompt
    is rendered alone.  Prompt and solution together are cut at `sft.max_length` tokens; a message says how many were.

    Raises:
        PipelineError: if a prompt leaves no room for its solution, or one of the two holds a control token.
    """
    longest = params.sft.max_length
    tokenized: list[TokenizedSolution] = []
    cut = 0
    prompts = [message["content"] for row in rows for message in row["prompt"]]
    engine.require_plain([*prompts, *(target(row, params) for row in rows)], tokenizer)
    for row in rows:
        messages: list[Any] = row["prompt"]
        options = params.chat_template_kwargs
        prompt = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options))
        solution = _continue_from(prompt, target(row, params)) + tokenizer.eos_token
        before, after = tokenizer([prompt, solution], add_special_tokens=False)["input_ids"]
        if len(before) >= longest:
            raise PipelineError(
                f"sft.max_length = {longest}: the prompt of {row['id']} alone has {len(before)} tokens; "
                "raise it, or take the row out"
            )
        cut += len(before) + len(after) > longest
        ids, labels = before + after, [IGNORED] * len(before) + after
        tokenized.append({"input_ids": ids[:longest], "labels": labels[:longest]})
    if cut:
        print(f"sft.max_length = {longest}: {cut} of {len(rows)} answers are longer and were cut", file=sys.stderr)
    return tokenized


def _continue_from(prompt: str, answer: str) -> str:
    """The answer as a continuation of the prompt.

    If the prompt ends by opening a thought, the thought is closed before the answer, unless the answer has thoughts of
    its own, with or without the opening tag.
    """
    if not prompt.rstrip().endswith(THINK_OPEN):
        return answer
    if THINK_CLOSE in answer:
        return answer.lstrip().removeprefix(THINK_OPEN).lstrip("\n")
    return f"\n{THINK_CLOSE}\n\n{answer}"


def _config(variant: str, params: Params, run_folder: Path) -> SFTConfig:
    """TRL's configuration: the section `sft`, whose keys are TRL's, and the arguments of every method."""
    return SFTConfig(
        **params.sft.of_one_gpu(params.gpus_of(variant)).model_dump(exclude={"warmup_ratio", "compile"}),
        **arguments(variant, params, run_folder, params.sft.warmup_ratio),
        include_num_input_tokens_seen="non_padding",
    )
