"""The prompts of each task of an evaluation, which are built and checked before the model answers any of them."""

from dataclasses import dataclass
from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections.data import AnswerComparison
from gsm8k_grpo.files import PipelineError, read_jsonl
from gsm8k_grpo.gsm8k import few_shot
from gsm8k_grpo.gsm8k.answer_formats import MARKED, AnswerFormat
from gsm8k_grpo.gsm8k.few_shot import BaselinePrompt
from gsm8k_grpo.gsm8k.prompts import trained_format
from gsm8k_grpo.models.engine import Engine, Prompt, tokenize_prompts
from gsm8k_grpo.records import Example
from gsm8k_grpo.stages.evaluate.tasks import TRAINED, Task, tasks


@dataclass(frozen=True)
class Requests:
    """What a task asks and how its answers are graded.

    Attributes:
        task: the task.
        examples: the questions, with their gold answers.
        prompts: the prompt for each of the examples.
        format: the format that strict grading reads.
        stop: a text that ends an answer; None if only stop tokens do.
        comparison: how answers are compared with the gold answer.
    """

    task: Task
    examples: list[Example]
    prompts: list[Prompt]
    format: AnswerFormat
    stop: str | None = None
    comparison: AnswerComparison = "number"


def build_requests(test: list[Example], extracted: Path, params: Params) -> list[Requests]:
    """The requests of every task; `test` is the test split, `extracted` the folder of the stage `extract`.

    Raises:
        PipelineError: if the test split is empty, which happens when no free answer has a number.
    """
    if not test:
        raise PipelineError(
            f"{extracted / 'test.jsonl'}: no question has an answer with a number after '####', so no answer can be "
            "graded and there is nothing to evaluate. The trained weights are in results/train, and `gsm8k-grpo ask` "
            "puts questions to them; for an evaluation end answers of test.jsonl in a line such as '#### 72'"
        )
    needs_examples = any(few_shot.SHOTS[name] for name in params.evaluate.prompts)
    shown = few_shot.draw_examples(read_jsonl(extracted / "train.jsonl"), params.seed) if needs_examples else []
    requests = []
    for task in tasks(params):
        examples = test if task.set == "test" else read_jsonl(extracted / "sets" / f"{task.set}.jsonl")
        examples = examples[: params.evaluate.questions]
        if task.prompt == TRAINED:
            requests.append(with_training_prompt(task, examples, params))
        else:
            requests.append(_with_baseline_prompt(task, task.prompt, examples, shown, params))
    return requests


def with_training_prompt(task: Task, examples: list[Example], params: Params) -> Requests:
    """Requests with the training prompt, which every example holds."""
    compared = params.evaluate.sets[task.set].comparison if task.set in params.evaluate.sets else "number"
    prompts: list[Prompt] = [example["prompt"] for example in examples]
    return Requests(task, examples, prompts, trained_format(params.extract), comparison=compared)


def _with_baseline_prompt(
    task: Task, prompt: BaselinePrompt, examples: list[Example], shown: list[Example], params: Params
) -> Requests:
    prompts: list[Prompt] = [few_shot.prompt_text(prompt, example["question"], shown) for example in examples]
    if few_shot.SHOTS[prompt]:
        return Requests(task, examples, prompts, MARKED, few_shot.STOP)
    return Requests(task, examples, prompts, trained_format(params.extract))


def require_context(requests: list[Requests], engine: Engine, params: Params) -> None:
    """Require that every prompt fits the model's context together with the longest answer.

    Raises:
        PipelineError: naming the task, its longest prompt and what to change.
    """
    limit = params.evaluate.max_completion_length
    for request in requests:
        longest = max(map(len, tokenize_prompts(request.prompts, engine.tokenizer, params.chat_template_kwargs)))
        if longest + limit > engine.context:
            raise PipelineError(
                f"evaluate: the longest prompt of {request.task.name} has {longest} tokens; with an answer of "
                f"evaluate.max_completion_length ({limit}) that is more than the model's context of {engine.context}; "
                f"{_remedy(request.task)}{_more_context(params)}"
            )


def _remedy(task: Task) -> str:
    if task.prompt != TRAINED:
        return f"take {task.prompt} out of evaluate.prompts"
    return "lower the limit" if task.set == "test" else f"take {task.set} out of evaluate.sets"


def _more_context(params: Params) -> str:
    if params.engine == "vllm":
        return ", or raise evaluate.max_model_length"
    return ", or raise base.architecture.context" if params.model == "scratch" else ""
