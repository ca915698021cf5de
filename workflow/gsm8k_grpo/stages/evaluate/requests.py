"""The questions of each pass of an evaluation, as the model is given them.

All of them are laid out, and checked against the model's context, before the first is asked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, read_jsonl
from gsm8k_grpo.gsm8k import few_shot
from gsm8k_grpo.models.engine import Engine, Prompt, tokenize_prompts
from gsm8k_grpo.stages.evaluate.grading import MARKED, TAGGED, AnswerFormat, trained_format
from gsm8k_grpo.stages.evaluate.tasks import TRAINED, Task, tasks

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Requests:
    """Rows of a pass's set, what the model is given for each, and how its answer is read and ends."""

    asked: Task
    rows: Rows
    prompts: list[Prompt]
    form: AnswerFormat
    stop: str | None = None


def build_requests(test: Rows, extracted: Path, params: Params) -> list[Requests]:
    """The questions of every pass; `test` is the test split, `extracted` the folder of the stage `extract`.

    Raises:
        PipelineError: where the test split is empty, as it is where no free answer has a number.
    """
    if not test:
        raise PipelineError(
            f"{extracted / 'test.jsonl'}: no question has an answer with a number behind '####', so that none can be "
            "told right from wrong and there is nothing to evaluate. What is trained is in results/train and answers "
            "to `gsm8k-grpo ask`; for an evaluation end answers of test.jsonl in a line such as '#### 72'"
        )
    with_shots = any(few_shot.SHOTS[name] for name in params.evaluate.prompts)
    shots = few_shot.shots(read_jsonl(extracted / "train.jsonl"), params.seed) if with_shots else []
    laid = []
    for one in tasks(params):
        rows = test if one.set == "test" else read_jsonl(extracted / "sets" / f"{one.set}.jsonl")
        rows = rows[: params.evaluate.questions]
        laid.append(as_trained(one, rows, params) if one.prompt == TRAINED else _baseline(one, rows, shots))
    return laid


def as_trained(asked: Task, rows: Rows, params: Params) -> Requests:
    """Rows with the training prompt, which they hold."""
    return Requests(asked, rows, [row["prompt"] for row in rows], trained_format(params.extract))


def _baseline(asked: Task, rows: Rows, shots: Rows) -> Requests:
    prompts: list[Prompt] = [few_shot.text(asked.prompt, row["question"], shots) for row in rows]
    if few_shot.SHOTS[asked.prompt]:
        return Requests(asked, rows, prompts, MARKED, few_shot.QUESTION)
    return Requests(asked, rows, prompts, TAGGED)


def require_context(laid: list[Requests], engine: Engine, params: Params) -> None:
    """Every prompt has room for its answer in the model's context.

    Raises:
        PipelineError: naming the pass, its longest prompt and what to change.
    """
    limit = params.evaluate.max_completion_length
    for one in laid:
        longest = max(map(len, tokenize_prompts(one.prompts, engine.tokenizer)))
        if longest + limit > engine.context:
            raise PipelineError(
                f"evaluate: the longest prompt of {one.asked.name} has {longest} tokens, and with an answer of "
                f"evaluate.max_completion_length ({limit}) more than the {engine.context} that the model takes; "
                f"{_remedy(one.asked)}{_more_context(params)}"
            )


def _remedy(one: Task) -> str:
    if one.prompt != TRAINED:
        return f"take {one.prompt} out of evaluate.prompts"
    return "lower the limit" if one.set == "test" else f"take {one.set} out of evaluate.sets"


def _more_context(params: Params) -> str:
    if params.engine == "vllm":
        return ", or raise evaluate.max_model_length"
    return ", or raise base.architecture.context" if params.model == "scratch" else ""
