"""Run the tasks of an evaluation with one model: generate, grade, write the answers, and compute the metrics.

One engine serves all tasks of a model, because starting it takes longer than a task.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from gsm8k_grpo.analysis.metrics import FORMULA_METRICS, GREEDY_METRICS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import write_jsonl
from gsm8k_grpo.gsm8k.answer_formats import AnswerFormat
from gsm8k_grpo.gsm8k.prompts import prompt
from gsm8k_grpo.models.engine import Completion, Engine, Sampling
from gsm8k_grpo.models.graph_engine import GraphEngine
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.models.sharded_engine import ShardedEngine
from gsm8k_grpo.models.transformers_engine import TransformersEngine
from gsm8k_grpo.models.vllm_engine import VllmEngine
from gsm8k_grpo.records import (
    Continuation,
    Example,
    GradedAnswer,
    GradedSamples,
    GreedySummary,
    Probe,
    RewardSignal,
    TaskInfo,
    TaskMetric,
    TaskTiming,
)
from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.stages.evaluate.continuation import continue_questions
from gsm8k_grpo.stages.evaluate.grading import grade, grade_formula, grade_samples, grade_unanswerable
from gsm8k_grpo.stages.evaluate.metrics import (
    by_formula,
    continuation_metrics,
    greedy_metrics,
    number_rates,
    sampled_metrics,
    summarise,
)
from gsm8k_grpo.stages.evaluate.requests import Requests
from gsm8k_grpo.stages.evaluate.signal import measurable, reward_signals
from gsm8k_grpo.stages.evaluate.tasks import CONTINUATION


def load_engine(source: Source, params: Params) -> Engine:
    """The engine that the key `engine` names, with the model loaded; if there are several ranks, each has one."""
    engines: dict[str, Callable[[Source, Params], Engine]] = {
        "transformers": TransformersEngine,
        "vllm": VllmEngine,
        "graphs": GraphEngine,
    }
    start = partial(engines[params.engine], source, params)
    return ShardedEngine(start) if ranks.count() > 1 else start()


def answer(requests: Requests, engine: Engine, params: Params, model: str) -> tuple[list[GradedAnswer], float]:
    """The graded greedy answer to each question, and the seconds that generation took; `model` labels the bar."""
    began = time.perf_counter()
    completions = engine.complete(
        requests.prompts, params.evaluate.max_completion_length, f"{model}: {requests.task.name}", requests.stop
    )
    seconds = time.perf_counter() - began
    graded = [
        _grader(example, requests)(example, completion, requests.format)
        for example, completion in zip(requests.examples, completions, strict=True)
    ]
    return graded, seconds


def _grader(example: Example, requests: Requests) -> Callable[[Example, Completion, AnswerFormat], GradedAnswer]:
    if requests.comparison == "math_verify":
        return grade_formula
    return grade_unanswerable if example["answer"] is None else grade


class TaskRunner:
    """Runs tasks with one model and writes its answers into the folder `target`.

    Attributes:
        metrics: the rows of `measures` in metrics.json for the tasks run so far.
        timing: the rows of `timing` in metrics.json for the tasks run so far.
        signal: the rows of `signal` in metrics.json; empty unless answers were sampled.
    """

    def __init__(self, model: str, engine: Engine, target: Path, params: Params):
        self.model, self.engine, self.target, self.params = model, engine, target, params
        self.metrics: list[TaskMetric] = []
        self.timing: list[TaskTiming] = []
        self.signal: list[RewardSignal] = []

    def run_greedy(self, requests: Requests) -> GreedySummary:
        """Write and measure a graded greedy answer to each question of the test split."""
        return self._measure(requests.task.info("greedy"), self._answer(requests), GREEDY_METRICS)

    def run_further(self, requests: Requests) -> None:
        """The same for a further prompt or set, whose questions may have formulas as answers, or no answers."""
        answers, info = self._answer(requests), requests.task.info("greedy")
        pairs = list(zip(answers, requests.examples, strict=True))
        numbers = [row for row, example in pairs if example["answer"] is not None]
        if numbers:
            self._measure(info, numbers, GREEDY_METRICS)
        if requests.comparison == "math_verify":
            self._measure({**info, "set": f"{info['set']}, math-verify"}, by_formula(answers), FORMULA_METRICS)
        elif len(numbers) < len(answers):
            rates = number_rates([row for row, example in pairs if example["answer"] is None])
            self.metrics += [{**info, "set": f"{info['set']}, unanswerable", **rate} for rate in rates]

    def _answer(self, requests: Requests) -> list[GradedAnswer]:
        """Write the graded greedy answers of a task, and note how long they took."""
        answers, seconds = answer(requests, self.engine, self.params, self.model)
        write_jsonl(self.target / requests.task.file, answers)
        tokens = [row["completion_tokens"] for row in answers]
        self.timing.append(_timing(requests.task.info("greedy"), seconds, tokens))
        return answers

    def _measure(self, info: TaskInfo, answers: list[GradedAnswer], names: Sequence[str]) -> GreedySummary:
        summary = summarise(answers, self.params.compare.resamples, self.params.seed)
        self.metrics += [{**info, **metric} for metric in greedy_metrics(summary, len(answers), names)]
        return summary

    def run_sampled(self, requests: Requests) -> None:
        """Write graded sampled answers to the first questions of a task; none if `evaluate.samples` is 0."""
        answers = self._sample(requests) if self.params.evaluate.samples else []
        write_jsonl(self.target / "sampled.jsonl", answers)

    def run_continuations(self, tasks: Sequence[Requests]) -> None:
        """Write how the model continues the first half of the questions of these tasks: the contamination probe."""
        resamples, seed = self.params.compare.resamples, self.params.seed
        rows: list[Continuation] = []
        for requests in tasks:
            name = requests.task.set
            began = time.perf_counter()
            continued = continue_questions(name, requests.examples, self.engine, f"{self.model}: {name}, continued")
            seconds = time.perf_counter() - began
            if not continued:
                continue
            info: TaskInfo = {"set": name, "prompt": CONTINUATION, "decoding": "greedy"}
            tokens = [len(self.engine.tokenizer(row["completion"])["input_ids"]) for row in continued]
            self.timing.append(_timing(info, seconds, tokens))
            self.metrics += [{**info, **metric} for metric in continuation_metrics(continued, resamples, seed)]
            rows += continued
        write_jsonl(self.target / "prompts" / f"{CONTINUATION}.jsonl", rows)

    def run_probes(self) -> None:
        """Write the greedy answers to `evaluate.probes`, which are not graded."""
        questions = self.params.evaluate.probes
        prompts = [prompt(question, self.params.extract) for question in questions]
        limit = self.params.evaluate.max_completion_length
        completions = self.engine.complete(list(prompts), limit, f"{self.model}: probes")
        probes: list[Probe] = [
            {"question": question, "completion": completion.text, "truncated": completion.truncated}
            for question, completion in zip(questions, completions, strict=True)
        ]
        write_jsonl(self.target / "probes.jsonl", probes)

    def _sample(self, requests: Requests) -> list[GradedSamples]:
        settings, seed = self.params.evaluate, self.params.seed
        examples = requests.examples[: settings.sampled_questions]
        began = time.perf_counter()
        completions = self.engine.sample(
            requests.prompts[: len(examples)],
            settings.max_completion_length,
            f"{self.model}: {requests.task.name}, sampled",
            Sampling(settings.samples, settings.temperature, seed),
        )
        seconds = time.perf_counter() - began
        answers = [
            grade_samples(example, samples, requests.format)
            for example, samples in zip(examples, completions, strict=True)
        ]
        info = requests.task.info("sampled")
        self.timing.append(_timing(info, seconds, [tokens for row in answers for tokens in row["completion_tokens"]]))
        self.metrics += [{**info, **metric} for metric in sampled_metrics(answers, self.params.compare.resamples, seed)]
        if measurable(self.params):
            form = self.params.extract.answer_form
            self.signal = reward_signals(examples, completions, self.params.rewards, form)
        return answers


def _timing(info: TaskInfo, seconds: float, completion_tokens: list[int]) -> TaskTiming:
    return {
        **info,
        "seconds": round(seconds, 2),
        "completions": len(completion_tokens),
        "completion_tokens": sum(completion_tokens),
    }
