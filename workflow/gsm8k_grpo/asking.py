"""One model asked: its answers are judged, written and measured, pass after pass, with one start of the engine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gsm8k_grpo import measures
from gsm8k_grpo.engines import Completion, Draw, Engine
from gsm8k_grpo.files import write_jsonl
from gsm8k_grpo.judge import judge, judge_samples
from gsm8k_grpo.params import Params
from gsm8k_grpo.passes import Pass
from gsm8k_grpo.prompts import prompt
from gsm8k_grpo.questions import Questions

Rows = list[dict[str, Any]]


def ask(engine: Engine, questions: Questions, params: Params, name: str) -> Rows:
    """The greedy answer of the model `name` to each question, judged."""
    return judged(questions, complete(engine, questions, params, name))


def complete(engine: Engine, questions: Questions, params: Params, name: str) -> list[Completion]:
    limit, progress = params.evaluate.max_completion_length, f"{name}: {questions.asked.name}"
    return engine.complete(questions.prompts, limit, progress, questions.stop)


def judged(questions: Questions, completions: list[Completion]) -> Rows:
    return [judge(row, one, questions.form) for row, one in zip(questions.rows, completions, strict=True)]


class Asking:
    """Asks the model `name` and writes into `target`; `measures` and `timing` are those of metrics.json.

    `timing` has a row for each pass: seconds, completions and their tokens.
    """

    def __init__(self, name: str, engine: Engine, target: Path, params: Params):
        self.name, self.engine, self.target, self.params = name, engine, target, params
        self.measures: Rows = []
        self.timing: Rows = []

    def greedily(self, questions: Questions) -> dict[str, Any]:
        """Write a judged answer to each question of a pass; what is measured of them, see `measures.summarise`."""
        about = _about(questions.asked, "greedy")
        with self._timed(about) as completions:
            completions += complete(self.engine, questions, self.params, self.name)
        answers = judged(questions, completions)
        write_jsonl(self.target / questions.asked.file, answers)
        found = measures.summarise(answers, self.params.compare.resamples, self.params.seed)
        self.measures += [about | measure for measure in measures.greedy(found, len(answers))]
        return found

    def sampled(self, questions: Questions) -> None:
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
                    Draw(settings.samples, settings.temperature, seed),
                )
                completions += [one for several in found for one in several]
            answers = [judge_samples(row, several, questions.form) for row, several in zip(rows, found, strict=True)]
            self.measures += [
                about | measure for measure in measures.sampled(answers, self.params.compare.resamples, seed)
            ]
        write_jsonl(self.target / "sampled.jsonl", answers)

    def probes(self) -> None:
        """The questions of `evaluate.probes`, whose answers nobody judges but the reader."""
        questions = self.params.evaluate.probes
        prompts = [prompt(question, self.params.extract) for question in questions]
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


def _about(asked: Pass, decoding: str) -> dict[str, str]:
    return {"set": asked.set, "prompt": asked.prompt, "decoding": decoding}
