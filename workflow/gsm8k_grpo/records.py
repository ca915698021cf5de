"""The rows that one stage writes and another reads, each with its keys explained.

The types describe JSON: what a file holds is a value of these types, or a list of them with one row per line (JSONL).
They cannot change what a stage writes, so neither DVC nor the resume hash depends on this module.
"""

from typing import Any, Literal, NotRequired, TypedDict

Interval = list[float]
"""Lower and upper bound of a 95 % interval, as JSON writes a pair."""


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


# Stage download


class PublishedProblem(TypedDict):
    """results/download/{train,test}.jsonl and sets/<set>.jsonl: a problem as its source publishes it."""

    question: str
    answer: str
    """The solution, which ends in `#### 72`; in further test sets it may be a number alone."""


class FileDigest(TypedDict):
    rows: int
    sha256: str


class Origin(TypedDict):
    """Where problems come from."""

    origin: str
    """Name of the data set, of the folder or file, or of the generator."""
    revision: str | None
    """Commit of the data set, or seed of the generator; None for a local folder or file."""
    licence: str


class Source(Origin):
    """results/download/source.json: where the problems of both splits come from."""

    source: Literal["hub", "local", "generated"]
    files: dict[str, FileDigest]
    """By file name: `train.jsonl` and `test.jsonl`."""


class SetSource(Origin):
    """results/download/sets/source.json has one of these per further test set, by its name."""

    rows: int
    sha256: str


# Stage extract


class Example(TypedDict):
    """results/extract/{train,validation,test}.jsonl and sets/<set>.jsonl: a problem with its prompt."""

    id: str
    """`test-17`: the split or set it was downloaded as, and its line there, counted from 0."""
    prompt: list[Message]
    """The messages of the training prompt."""
    question: str
    answer: str | None
    """The gold number in normal form.  None for a free answer without a number, in the train split only, for a formula
    in a further set that compares formulas, and for a question that can't be answered."""
    solution: str
    """The answer as published."""


class ExtractMetrics(TypedDict):
    """results/extract/metrics.json."""

    train_rows: int
    validation_rows: int
    test_rows: int
    copies: dict[str, int]
    """Of the downloaded train and test split: the rows whose question an earlier row asks too."""
    validation_copies_left_out: int
    """Rows of train left out because validation asks their question."""
    validation_rows_without_number: NotRequired[int]
    """Rows left out since their free answer has no number to grade by."""
    test_rows_without_number: NotRequired[int]


class SetMetrics(TypedDict):
    """results/extract/sets/metrics.json has one of these per further test set, by its name."""

    rows: int
    left_out: int
    """Questions whose answer is no number."""
    unanswerable: NotRequired[int]
    """Of the rows, those that can't be answered; only for a set that names such an answer."""


class Overlap(TypedDict):
    """A row of results/extract/overlap.json: what a test set shares with the downloaded train split."""

    set: str
    n: int
    """Questions of the set."""
    exact: int
    """Questions that are also in train."""
    ngram: int
    """Questions that share `size` consecutive words with one of train; the exact ones too if they are that long."""
    size: int
    examples: list[str]
    """Ids of at most ten of both kinds, exact ones first."""


# Stage base


class BaseModelFile(TypedDict):
    """results/base/base.json: the model that training starts from."""

    model: str
    """A folder, or a name on the hub."""
    sha256: dict[str, str]
    """Digest of each file of the folder; empty for a model of the hub."""


class BaseMetrics(TypedDict):
    """results/base/metrics.json, which only a model from scratch (`model: scratch`) has."""

    parameters: int
    vocabulary: int
    documents: int
    documents_cut: int
    """Documents longer than the context."""
    distinct_problems: int
    steps: int
    loss: float
    seconds: float


# Stage train

Method = Literal["grpo", "rloo", "online_dpo", "ppo", "sft"]
"""A training method, as `method:` names it; `config.methods` has the traits of each."""

HistoryRow = dict[str, float | int | None]
"""One row of results/train/<variant>/history.csv, one optimizer step.  Its columns depend on the rewards: see
`stages.train.history`."""


class TrainingSample(TypedDict):
    """results/train/<variant>/samples.jsonl: one completion sampled during training."""

    step: int
    question: str
    completion: str
    rewards: dict[str, float]
    """Unweighted value of each reward function, by its name."""


class Session(TypedDict):
    """session.json of a checkpoint: what the run has taken so far, over all its sessions."""

    seconds: float
    seconds_saving: float
    energy_kwh: float | None
    """None once a session ran on a GPU without an energy counter."""
    peak_memory_gib: float
    sessions: int
    """How often training was started, the first time included."""


WarningKind = Literal["no_signal", "cut", "entropy"]
"""What a warning of training is about: equal rewards, completions that are cut, or the entropy."""


class TrainingWarning(TypedDict):
    """Something that keeps a run from learning, as training printed it; see `stages.train.signal`."""

    step: int
    kind: WarningKind
    text: str


class TrainingMetrics(Session):
    """results/train/<variant>/metrics.json: a whole training run."""

    prompts: int
    """Rows of the train split that the run uses."""
    prompts_available: int
    prompts_left_out_per_epoch: int
    """Rows that do not fill a generation at the end of an epoch."""
    mlflow_run_id: str | None
    mlflow_run_key: str
    method: Method
    steps: int
    epochs: float
    prompts_seen: int
    tokens: int
    skipped_steps: int
    """Steps whose gradients overflowed float16, so that the loss scaler skipped them."""
    reward_first: float | None
    """Mean reward of the first step; None for a method without rewards."""
    reward_last: float | None
    share_without_signal: float | None
    """Share of the groups whose rewards were all equal, over the whole run; None for a method without groups."""
    warnings: list[TrainingWarning]
    """At most one of each kind, in the order of their steps."""
    stopped_at: int | None
    """The step after which `train.stop_without_signal` ended the run; None if it trained to its end."""
    stop_reason: str | None
    seconds_generate: float
    seconds_score: float
    seconds_update: float
    effective_config: dict[str, Any]
    """What the trainer really ran with, read back from it, under TRL's names."""


# Stage evaluate


class GradedAnswer(TypedDict):
    """results/evaluate/<model>/answers.jsonl, prompts/*.jsonl and sets/*.jsonl: a greedy answer, graded."""

    id: str
    question: str
    gold: str
    completion: str
    strict_correct: bool
    """The answer in the format that the prompt asks for is the gold number; holds no number if there is no answer."""
    flexible_correct: bool
    """The last number of the text, behind a thought, is the gold number; there is none if there is no answer."""
    harness_strict: bool
    """Correct by lm-evaluation-harness's filter strict-match."""
    harness_flexible: bool
    """Correct by its filter flexible-extract."""
    format_ok: bool
    truncated: bool
    """The completion was cut off by the token limit."""
    completion_tokens: int
    math_verify_strict: NotRequired[bool]
    """In sets that compare formulas: the answer in the format that the prompt asks for equals the gold formula.  Where
    the gold answer is no number, this is also `strict_correct`."""
    math_verify_flexible: NotRequired[bool]
    """Likewise for the formula that math-verify finds in the whole text, and `flexible_correct`."""


class GradedSamples(TypedDict):
    """results/evaluate/<model>/sampled.jsonl: the sampled answers to one question, in the order they were drawn."""

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
    """Prompts."""
    samples: int
    """Answers per prompt."""


class Evaluation(GreedySummary):
    """results/evaluate/<model>/metrics.json."""

    n: int
    """Questions of the test split that were answered."""
    n_available: int
    measures: list[TaskMetric]
    signal: list[RewardSignal]
    """One row per reward of the section `rewards`, then `total`; none without sampled answers, or if the rewards can't
    grade the answers of the data."""
    decoding: Decoding
    seconds: float
    """Of the greedy answers to the test split."""
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


# Stage compare


class PairedDifference(TypedDict):
    """The difference of an accuracy between two models on the same questions."""

    difference: float
    """b minus a, as a share."""
    ci95: Interval
    """Paired bootstrap interval of the difference."""
    p_value: float
    """Exact two-sided p of McNemar's test."""
    n: int
    fixed: int
    """Questions that only b answers right."""
    broken: int
    """Questions that only a answers right."""


class Comparison(PairedDifference):
    """A row of results/compare/comparison.json."""

    a: str
    b: str
    metric: str
    p_holm: float
    """`p_value` after Holm's correction over all rows."""


ChangeKind = Literal["format", "answer", "both"]
"""What changed on a question that only one of two models answers right: see `stages.compare.attribution`."""


class Changes(TypedDict):
    """The strict difference of two models by what changed."""

    n: int
    fixed: dict[ChangeKind, int]
    broken: dict[ChangeKind, int]
    points: dict[ChangeKind, float]
    """Each kind's part of the difference, as a share; the parts add up to it."""


class Attribution(Changes):
    """A row of results/compare/gains.json."""

    a: str
    b: str


class Spread(TypedDict):
    """A metric over several seeds."""

    seeds: list[int]
    values: list[float]
    mean: float
    sd: float | None
    """Sample standard deviation; None with one seed."""


class SeedSpread(Spread):
    """A row of results/compare/seeds.json: an accuracy of a variant over its seeds."""

    variant: str
    metric: str
