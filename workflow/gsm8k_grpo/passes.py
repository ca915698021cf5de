"""What one model is asked greedily: the test split with each prompt, and every further test set with that of training.

A pass is a set of questions with a prompt.  All of them are laid out, and checked against the model's context, before
the first is asked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsm8k_grpo import baselines
from gsm8k_grpo.engines import Engine, Prompt, tokenized
from gsm8k_grpo.files import PipelineError, read_jsonl
from gsm8k_grpo.judge import MARKED, TAGGED, Form, trained_form
from gsm8k_grpo.params import Params

TRAINED = "trained"  # the name of the training prompt

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Pass:
    """Rows of `set` and what is asked of each; the answers go to `file` of the model's folder."""

    set: str
    prompt: str
    file: str
    rows: Rows
    prompts: list[Prompt]
    form: Form = TAGGED
    stop: str | None = None

    @property
    def name(self) -> str:
        return self.set if self.prompt == TRAINED else f"{self.set}, {self.prompt}"


def passes(extracted: Path, params: Params) -> list[Pass]:
    """The test split with the training prompt, then with each of `evaluate.prompts`, then each of `evaluate.sets`.

    Raises:
        PipelineError: where the test split is empty, as it is where no free answer has a number.
    """
    test = read_jsonl(extracted / "test.jsonl")[: params.evaluate.questions]
    if not test:
        raise PipelineError(
            f"{extracted / 'test.jsonl'}: no question has an answer with a number behind '####', so that none can be "
            "told right from wrong and there is nothing to evaluate. What is trained is in results/train and answers "
            "to `gsm8k-grpo ask`; for an evaluation end answers of test.jsonl in a line such as '#### 72'"
        )
    with_shots = any(baselines.SHOTS[name] for name in params.evaluate.prompts)
    shots = baselines.shots(read_jsonl(extracted / "train.jsonl"), params.seed) if with_shots else []
    sets = {name: read_jsonl(extracted / "sets" / f"{name}.jsonl") for name in params.evaluate.sets}
    form = trained_form(params.extract)
    return [
        _trained("test", "answers.jsonl", test, form),
        *(_baseline(name, test, shots) for name in params.evaluate.prompts),
        *(_trained(name, f"sets/{name}.jsonl", rows[: params.evaluate.questions], form) for name, rows in sets.items()),
    ]


def _trained(name: str, file: str, rows: Rows, form: Form) -> Pass:
    return Pass(name, TRAINED, file, rows, [row["prompt"] for row in rows], form)


def _baseline(name: baselines.Baseline, rows: Rows, shots: Rows) -> Pass:
    prompts: list[Prompt] = [baselines.text(name, row["question"], shots) for row in rows]
    with_shots = baselines.SHOTS[name] > 0
    form, stop = (MARKED, baselines.QUESTION) if with_shots else (TAGGED, None)
    return Pass("test", name, f"prompts/{name}.jsonl", rows, prompts, form, stop)


def check_fit(asked: list[Pass], engine: Engine, params: Params) -> None:
    """Every prompt has room for its answer in the model's context.

    Raises:
        PipelineError: naming the pass, its longest prompt and what to change.
    """
    limit = params.evaluate.max_completion_length
    for one in asked:
        longest = max(map(len, tokenized(one.prompts, engine.tokenizer)))
        if longest + limit > engine.context:
            raise PipelineError(
                f"evaluate: the longest prompt of {one.name} has {longest} tokens, and with an answer of "
                f"evaluate.max_completion_length ({limit}) more than the {engine.context} that the model takes; "
                f"{_remedy(one)}{_more_context(params)}"
            )


def _remedy(one: Pass) -> str:
    if one.prompt != TRAINED:
        return f"take {one.prompt} out of evaluate.prompts"
    return "lower the limit" if one.set == "test" else f"take {one.set} out of evaluate.sets"


def _more_context(params: Params) -> str:
    if params.engine == "vllm":
        return ", or raise evaluate.max_model_length"
    return ", or raise base.architecture.context" if params.model == "scratch" else ""
