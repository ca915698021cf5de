"""The result files of the stages before the report, read in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json, read_jsonl
from gsm8k_grpo.gsm8k.prompts import trained_format
from gsm8k_grpo.records import (
    Attribution,
    BaseMetrics,
    CheckpointMetrics,
    Comparison,
    Evaluation,
    ExtractMetrics,
    GradedAnswer,
    GradedSamples,
    Overlap,
    Probe,
    SeedSpread,
    Source,
    TaskMetric,
    TrainingMetrics,
    TrainingSample,
)
from gsm8k_grpo.stages.evaluate.tasks import tasks


@dataclass(frozen=True)
class Results:
    """The result files of the stages.

    If there is one file per variant or model, a dictionary has them by name; among the models base comes first.

    Attributes:
        answer_place: where strict grading reads the answer, such as "between the answer tags".
        base: how the base model was pretrained; None if it was not made here.
        starts: what each variant was trained from: base, another variant, or a kept checkpoint of one.
        further: the answers to each further task, by the task's name and then by model.
        sampled: the sampled answers of the models that have some.
    """

    answer_place: str
    source: Source
    extracted: ExtractMetrics
    overlap: list[Overlap]
    base: BaseMetrics | None
    starts: dict[str, str]
    training: dict[str, TrainingMetrics]
    histories: dict[str, pd.DataFrame]
    samples: dict[str, list[TrainingSample]]
    evaluations: dict[str, Evaluation]
    answers: dict[str, list[GradedAnswer]]
    further: dict[str, dict[str, list[GradedAnswer]]]
    sampled: dict[str, list[GradedSamples]]
    probes: dict[str, list[Probe]]
    checkpoints: dict[str, list[CheckpointMetrics]]
    comparison: list[Comparison]
    attribution: list[Attribution]
    seeds: list[SeedSpread]

    @property
    def parameters(self) -> int:
        return next(iter(self.training.values()))["effective_config"]["parameters"]

    @property
    def device(self) -> str:
        return next(iter(self.training.values()))["effective_config"]["device"]

    def task_metrics(self, model: str, decoding: Literal["greedy", "sampled"]) -> list[TaskMetric]:
        """The metrics of a model with one decoding, for all tasks."""
        return [metric for metric in self.evaluations[model]["measures"] if metric["decoding"] == decoding]


def read_results(results: Path, params: Params) -> Results:
    trained = {variant: results / "train" / variant for variant in params.variants}
    evaluated = {model: results / "evaluate" / model for model in ["base", *params.variants]}
    evaluations: dict[str, Evaluation] = {
        model: read_json(folder / "metrics.json") for model, folder in evaluated.items()
    }
    first_task, *further_tasks = tasks(params)
    with_samples = [
        model
        for model, evaluation in evaluations.items()
        if any(metric["decoding"] == "sampled" for metric in evaluation["measures"])
    ]
    return Results(
        answer_place=trained_format(params.extract).place,
        source=read_json(results / "download" / "source.json"),
        extracted=read_json(results / "extract" / "metrics.json"),
        overlap=read_json(results / "extract" / "overlap.json"),
        base=read_json(results / "base" / "metrics.json") if params.model == "scratch" else None,
        starts={variant: section.start or "base" for variant, section in params.variants.items()},
        training={variant: read_json(folder / "metrics.json") for variant, folder in trained.items()},
        histories={variant: pd.read_csv(folder / "history.csv") for variant, folder in trained.items()},
        samples={variant: read_jsonl(folder / "samples.jsonl") for variant, folder in trained.items()},
        evaluations=evaluations,
        answers={model: read_jsonl(folder / first_task.file) for model, folder in evaluated.items()},
        further={
            task.name: {model: read_jsonl(folder / task.file) for model, folder in evaluated.items()}
            for task in further_tasks
        },
        sampled={model: read_jsonl(evaluated[model] / "sampled.jsonl") for model in with_samples},
        probes={model: read_jsonl(folder / "probes.jsonl") for model, folder in evaluated.items()},
        checkpoints={model: read_jsonl(folder / "checkpoints.jsonl") for model, folder in evaluated.items()},
        comparison=read_json(results / "compare" / "comparison.json"),
        attribution=read_json(results / "compare" / "gains.json"),
        seeds=read_json(results / "compare" / "seeds.json"),
    )
