"""One model asked: its answers are judged, written and measured, pass after pass, with one start of the engine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import write_jsonl
from gsm8k_grpo.gsm8k.prompts import prompt
from gsm8k_grpo.models.engine import Completion, Engine, Sampling
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.models.transformers_engine import TransformersEngine
from gsm8k_grpo.models.vllm_engine import VllmEngine
from gsm8k_grpo.stages.evaluate import metrics
from gsm8k_grpo.stages.evaluate.grading import grade, grade_samples
from gsm8k_grpo.stages.evaluate.requests import Requests
from gsm8k_grpo.stages.evaluate.tasks import Task

Rows = list[dict[str, Any]]


def load_engine(source: Source, params: Params) -> Engine:
    """The engine that `engine` names, with a model in it."""
    return (VllmEngine if params.engine == "vllm" else TransformersEngine)(source, params)


def answer(engine: Engine, questions: Requests, params: Params, name: str) -> Rows:
    """The greedy answer of the model `name` to each question, judged."""
    return graded(questions, complete(engine, questions, params, name))


def complete(engine: Engine, questions: Requests, params: Params, name: str) -> list[Completion]:
    limit, progress = params.evaluate.max_completion_length, f"{name}: {questions.asked.name}"
    return engine.complete(questions.prompts, limit, progress, questions.stop)


def graded(questions: Requests, completions: list[Completion]) -> Rows:
    return [grade(row, one, questions.form) for row, one in zip(questions.rows, completions, strict=True)]


class TaskRunner:
    """Asks the model `name` and writes into `target`; `measures` and `timing` are those of metrics.json.

    `timing` has a row for each pass: seconds, completions and their tokens.
    """

    def __init__(self, name: str, engine: Engine, target: Path, params: Params):
        self.name, self.engine, self.target, self.params = name, engine, target, params
        self.measures: Rows = []
        self.timing: Rows = []

    def greedily(self, questions: Requests) -> dict[str, Any]:
        """Write a judged answer to each question of a pass; what is measured of them, see `measures.summarise`."""
        about = _about(questions.asked, "greedy")
        with self._timed(about) as completions:
            completions += complete(self.engine, questions, self.params, self.name)
        answers = graded(questions, completions)
        write_jsonl(self.target / questions.asked.file, answers)
        found = metrics.summarise(answers, self.params.compare.resamples, self.params.seed)
        self.measures += [about | measure for measure in metrics.greedy(found, len(answers))]
        return found

    def sampled(self, questions: Requests) -> None:
        """Sample the first questions of a pass; without `evaluate.samples` sampled.jsonl is empty."""
        settings, seed = self.params.evaluate, self.params.seed
        rows = questions.rows[: settings.sampled_questions] if settings.samples else []
        about = _about(questions.asked, "sampled")
        answers: Rows = []
        if rows:
            with self._timed(about) as completions:
                found = self.engine.sample(
                    questions.prompts[: len(rows)],
                    settings.max_completion_length,
                    f"{self.name}: {questions.asked.name}, sampled",
                    Sampling(settings.samples, settings.temperature, seed),
                )
                completions += [one for several in found for one in several]
            answers = [grade_samples(row, several, questions.form) for row, several in zip(rows, found, strict=True)]
            self.measures += [
                about | measure for measure in metrics.sampled(answers, self.params.compare.resamples, seed)
            ]
        write_jsonl(self.target / "sampled.jsonl", answers)

    def probes(self) -> None:
        """The questions of `evaluate.probes`, whose answers nobody judges but the reader."""
        questions, extract = self.params.evaluate.probes, self.params.extract
        prompts = [prompt(question, extract.answers, extract.language, extract.one_shot) for question in questions]
        answers = self.engine.complete(prompts, self.params.evaluate.max_completion_length, f"{self.name}: probes")
        write_jsonl(
            self.target / "probes.jsonl",
            [
                {"question": question, "completion": answer.text, "truncated": answer.truncated}
                for question, answer in zip(questions, answers, strict=True)
            ],
        )

    @contextmanager
    def _timed(self, about: dict[str, str]) -> Iterator[list[Completion]]:
        """A row of `timing` for the completions that the block adds to the list."""
        completions: list[Completion] = []
        began = time.perf_counter()
        yield completions
        self.timing.append(
            about
            | {
                "seconds": round(time.perf_counter() - began, 2),
                "completions": len(completions),
                "completion_tokens": sum(one.tokens for one in completions),
            }
        )


def _about(asked: Task, decoding: str) -> dict[str, str]:
    return {"set": asked.set, "prompt": asked.prompt, "decoding": decoding}
