"""What the stages before the report have found: their result files, read in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json, read_jsonl
from gsm8k_grpo.stages.evaluate.tasks import tasks

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Results:
    """The result files of the stages; what there is one of for each model is keyed by model, base first.

    `base` is None where the model was not made here; `sampled` holds the models that were asked with sampling;
    `further` holds the answers of each further prompt and set, by the name of the pass and then by model.
    """

    source: dict[str, Any]
    extracted: dict[str, Any]
    overlap: Rows
    base: dict[str, Any] | None
    training: dict[str, dict[str, Any]]
    histories: dict[str, pd.DataFrame]
    samples: dict[str, Rows]
    evaluations: dict[str, dict[str, Any]]
    answers: dict[str, Rows]
    further: dict[str, dict[str, Rows]]
    sampled: dict[str, Rows]
    probes: dict[str, Rows]
    checkpoints: dict[str, Rows]
    comparison: Rows
    gains: Rows
    seeds: Rows

    @property
    def parameters(self) -> int:
        return next(iter(self.training.values()))["effective_config"]["parameters"]

    @property
    def device(self) -> str:
        return next(iter(self.training.values()))["effective_config"]["device"]

    def measures(self, model: str, decoding: str) -> Rows:
        """The model's measures of one decoding: greedy or sampled."""
        return [measure for measure in self.evaluations[model]["measures"] if measure["decoding"] == decoding]


def read_results(results: Path, params: Params) -> Results:
    trained = {variant: results / "train" / variant for variant in params.variants}
    evaluated = {model: results / "evaluate" / model for model in ["base", *params.variants]}
    evaluations = {model: read_json(folder / "metrics.json") for model, folder in evaluated.items()}
    first, *further = tasks(params)
    asked_with_sampling = [
        model
        for model, figures in evaluations.items()
        if any(measure["decoding"] == "sampled" for measure in figures["measures"])
    ]
    return Results(
        source=read_json(results / "download" / "source.json"),
        extracted=read_json(results / "extract" / "metrics.json"),
        overlap=read_json(results / "extract" / "overlap.json"),
        base=read_json(results / "base" / "metrics.json") if params.model == "scratch" else None,
        training={variant: read_json(folder / "metrics.json") for variant, folder in trained.items()},
        histories={variant: pd.read_csv(folder / "history.csv") for variant, folder in trained.items()},
        samples={variant: read_jsonl(folder / "samples.jsonl") for variant, folder in trained.items()},
        evaluations=evaluations,
        answers={model: read_jsonl(folder / first.file) for model, folder in evaluated.items()},
        further={
            one.name: {model: read_jsonl(folder / one.file) for model, folder in evaluated.items()} for one in further
        },
        sampled={model: read_jsonl(evaluated[model] / "sampled.jsonl") for model in asked_with_sampling},
        probes={model: read_jsonl(folder / "probes.jsonl") for model, folder in evaluated.items()},
        checkpoints={model: read_jsonl(folder / "checkpoints.jsonl") for model, folder in evaluated.items()},
        comparison=read_json(results / "compare" / "comparison.json"),
        gains=read_json(results / "compare" / "gains.json"),
        seeds=read_json(results / "compare" / "seeds.json"),
    )
