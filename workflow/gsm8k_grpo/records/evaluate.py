"""Graded answers of a model, the metrics over them, and how they were decoded."""

from typing import Any, Literal, NotRequired, TypedDict

from gsm8k_grpo.records.interval import Interval


class GradedAnswer(TypedDict):
    """results/evaluate/<model>/answers.jsonl, prompts/*.jsonl and sets/*.jsonl: a greedy answer, graded."""

    id: str
    question: str
    gold: str
    completion: str
    strict_correct: bool
    """The answer in the format that the prompt asks for is the gold number; an unanswerable question gets none."""
    flexible_correct: bool
    """The last number of the text after a thought is the gold number; an unanswerable question gets none."""
    harness_strict: bool
    """Correct by lm-evaluation-harness's filter strict-match."""
    harness_flexible: bool
    """Correct by lm-evaluation-harness's filter flexible-extract."""
    format_ok: bool
    truncated: bool
    """The completion was cut off by the token limit."""
    completion_tokens: int
    math_verify_strict: NotRequired[bool]
    """In sets that compare formulas: the answer in the format that the prompt asks for equals the gold formula.  If
    the gold answer is not a number, this is also `strict_correct`."""
    math_verify_flexible: NotRequired[bool]
    """The formula that math-verify finds in the whole text equals the gold formula.  If the gold answer is not a
    number, this is also `flexible_correct`."""


class GradedSamples(TypedDict):
    """results/evaluate/<model>/sampled.jsonl: the sampled answers to one question, in the order of the samples."""

    id: str
    question: str
    gold: str
    strict_answers: list[str | None]
    flexible_answers: list[str | None]
    strict_correct: list[bool]
    flexible_correct: list[bool]
    completion_tokens: list[int]


class Probe(TypedDict):
    """results/evaluate/<model>/probes.jsonl: the greedy answer to a question of `evaluate.probes`, not graded."""

    question: str
    completion: str
    truncated: bool


class Continuation(TypedDict):
    """results/evaluate/<model>/prompts/continuation.jsonl: how a model continues the first half of a question."""

    set: str
    id: str
    given: str
    """The first half of the question."""
    expected: str
    """The second half."""
    completion: str
    """As many words as the second half has."""
    exact: bool
    """The words of the completion are those of the second half."""
    rouge_l: float


class MetricValue(TypedDict):
    """A metric with its interval, over `n` questions."""

    metric: str
    value: float
    ci95: Interval
    n: int


class TaskInfo(TypedDict):
    """Which questions were answered with which prompt, and how the answers were decoded."""

    set: str
    """`test` or a name of `evaluate.sets`."""
    prompt: str
    """`trained`, a name of `evaluate.prompts`, or `continuation`."""
    decoding: Literal["greedy", "sampled"]


class TaskMetric(TaskInfo, MetricValue):
    """A row of `measures` in an evaluation's metrics.json."""


class TaskTiming(TaskInfo):
    """A row of `timing` in an evaluation's metrics.json."""

    seconds: float
    completions: int
    completion_tokens: int


class Decoding(TypedDict):
    greedy: bool
    max_completion_length: int
    one_shot: bool
    samples: int
    temperature: float
    seed: int
    chat_template_kwargs: dict[str, Any]
    date: str
    """The date that prompts name if the chat template asks for today's."""
    stop_tokens: list[int]
    """The token ids that end an answer."""


class GreedySummary(TypedDict):
    """Every metric of the greedy answers to the test split with the training prompt."""

    strict_accuracy: float
    strict_accuracy_ci95: Interval
    flexible_accuracy: float
    flexible_accuracy_ci95: Interval
    harness_strict: float
    harness_strict_ci95: Interval
    harness_flexible: float
    harness_flexible_ci95: Interval
    format_rate: float
    format_rate_ci95: Interval
    truncation_rate: float
    truncation_rate_ci95: Interval
    mean_completion_tokens: float
    mean_completion_tokens_ci95: Interval


class RewardSignal(TypedDict):
    """On what share of the prompts a group of sampled answers differs in a reward, so that GRPO can learn from it."""

    reward: str
    """Name of the reward function, or `total` for their weighted sum."""
    share: float
    ci95: Interval
    n: int
    """The number of prompts."""
    samples: int
    """The number of answers to each prompt."""


class Evaluation(GreedySummary):
    """results/evaluate/<model>/metrics.json."""

    n: int
    """The number of questions of the test split that were answered."""
    n_available: int
    measures: list[TaskMetric]
    signal: list[RewardSignal]
    """One row per reward of the section `rewards`, then `total`; none without sampled answers, or if the rewards can't
    grade the answers of the data."""
    decoding: Decoding
    seconds: float
    """The time that the greedy answers to the test split took."""
    timing: list[TaskTiming]
    mlflow_run_id: str | None
    mlflow_run_key: str


class CheckpointMetrics(TypedDict):
    """results/evaluate/<model>/checkpoints.jsonl: a point of the learning curve, on the validation split."""

    step: int
    prompts_seen: int
    n: int
    strict_accuracy: float
    strict_accuracy_ci95: Interval
    flexible_accuracy: float
    flexible_accuracy_ci95: Interval
    format_rate: float
    format_rate_ci95: Interval
    mean_completion_tokens: float
