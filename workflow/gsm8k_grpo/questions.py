"""The questions of each pass of an evaluation, as the model is given them.

All of them are laid out, and checked against the model's context, before the first is asked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsm8k_grpo import baselines
from gsm8k_grpo.engines import Engine, Prompt, tokenized
from gsm8k_grpo.files import PipelineError, read_jsonl
from gsm8k_grpo.judge import MARKED, TAGGED, Form, trained_form
from gsm8k_grpo.params import Params
from gsm8k_grpo.passes import TRAINED, Pass, passes

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Questions:
    """Rows of a pass's set, what the model is given for each, and how its answer is read and ends."""

    asked: Pass
    rows: Rows
    prompts: list[Prompt]
    form: Form
    stop: str | None = None


def lay_out(test: Rows, extracted: Path, params: Params) -> list[Questions]:
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
    with_shots = any(baselines.SHOTS[name] for name in params.evaluate.prompts)
    shots = baselines.shots(read_jsonl(extracted / "train.jsonl"), params.seed) if with_shots else []
    laid = []
    for one in passes(params):
        rows = test if one.set == "test" else read_jsonl(extracted / "sets" / f"{one.set}.jsonl")
        rows = rows[: params.evaluate.questions]
        laid.append(as_trained(one, rows, params) if one.prompt == TRAINED else _baseline(one, rows, shots))
    return laid


def as_trained(asked: Pass, rows: Rows, params: Params) -> Questions:
    """Rows with the training prompt, which they hold."""
    return Questions(asked, rows, [row["prompt"] for row in rows], trained_form(params.extract))


def _baseline(asked: Pass, rows: Rows, shots: Rows) -> Questions:
    prompts: list[Prompt] = [baselines.text(asked.prompt, row["question"], shots) for row in rows]
    if baselines.SHOTS[asked.prompt]:
        return Questions(asked, rows, prompts, MARKED, baselines.QUESTION)
    return Questions(asked, rows, prompts, TAGGED)


def check_fit(laid: list[Questions], engine: Engine, params: Params) -> None:
    """Every prompt has room for its answer in the model's context.

    Raises:
        PipelineError: naming the pass, its longest prompt and what to change.
    """
    limit = params.evaluate.max_completion_length
    for one in laid:
        longest = max(map(len, tokenized(one.prompts, engine.tokenizer)))
        if longest + limit > engine.context:
            raise PipelineError(
                f"evaluate: the longest prompt of {one.asked.name} has {longest} tokens, and with an answer of "
                f"evaluate.max_completion_length ({limit}) more than the {engine.context} that the model takes; "
                f"{_remedy(one.asked)}{_more_context(params)}"
            )


def _remedy(one: Pass) -> str:
    if one.prompt != TRAINED:
        return f"take {one.prompt} out of evaluate.prompts"
    return "lower the limit" if one.set == "test" else f"take {one.set} out of evaluate.sets"


def _more_context(params: Params) -> str:
    if params.engine == "vllm":
        return ", or raise evaluate.max_model_length"
    return ", or raise base.architecture.context" if params.model == "scratch" else ""
