"""The rows that one stage writes and another reads, each with its keys explained: one module per stage.

The types describe JSON: what a file holds is a value of these types, or a list of them with one row per line (JSONL).
They can't change what a stage writes, so neither DVC nor the resume hash depends on this room.  Other rooms import the
types from here.
"""

from gsm8k_grpo.records.base import BaseMetrics, BaseModelFile
from gsm8k_grpo.records.chat import Message
from gsm8k_grpo.records.compare import (
    Attribution,
    ChangeKind,
    Changes,
    Comparison,
    PairedDifference,
    SeedSpread,
    Spread,
)
from gsm8k_grpo.records.download import FileDigest, Origin, PublishedProblem, SetSource, Source
from gsm8k_grpo.records.evaluate import (
    CheckpointMetrics,
    Continuation,
    Decoding,
    Evaluation,
    GradedAnswer,
    GradedSamples,
    GreedySummary,
    MetricValue,
    Probe,
    RewardSignal,
    TaskInfo,
    TaskMetric,
    TaskTiming,
)
from gsm8k_grpo.records.extract import Example, ExtractMetrics, Overlap, SetMetrics
from gsm8k_grpo.records.interval import Interval
from gsm8k_grpo.records.train import (
    HistoryRow,
    Method,
    Session,
    TrainingMetrics,
    TrainingSample,
    TrainingWarning,
    WarningKind,
)

__all__ = [
    "Attribution",
    "BaseMetrics",
    "BaseModelFile",
    "ChangeKind",
    "Changes",
    "CheckpointMetrics",
    "Comparison",
    "Continuation",
    "Decoding",
    "Evaluation",
    "Example",
    "ExtractMetrics",
    "FileDigest",
    "GradedAnswer",
    "GradedSamples",
    "GreedySummary",
    "HistoryRow",
    "Interval",
    "Message",
    "Method",
    "MetricValue",
    "Origin",
    "Overlap",
    "PairedDifference",
    "Probe",
    "PublishedProblem",
    "RewardSignal",
    "SeedSpread",
    "Session",
    "SetMetrics",
    "SetSource",
    "Source",
    "Spread",
    "TaskInfo",
    "TaskMetric",
    "TaskTiming",
    "TrainingMetrics",
    "TrainingSample",
    "TrainingWarning",
    "WarningKind",
]
