"""The metrics of every model as tables: of sampled answers, of other prompts, and of other test sets."""

from typing import Literal, TypedDict

from gsm8k_grpo.analysis.metrics import EXTRACTIONS
from gsm8k_grpo.records import TaskMetric
from gsm8k_grpo.stages.evaluate.tasks import TRAINED
from gsm8k_grpo.stages.report.results import Results


class TableRow(TypedDict):
    """A row of a table: one model with one way of extracting, one prompt or one set."""

    model: str
    name: str
    """Of the way of extracting, of the prompt, or of the set."""
    n: int
    cells: dict[str, TaskMetric]
    """By the name of the metric, without that of the way of extracting."""


def tables(results: Results) -> dict[str, list[TableRow]]:
    """The tables `sampled`, `prompts` and `sets`; one is empty if the run has nothing to show in it."""
    sampled: list[TableRow] = []
    prompts: list[TableRow] = []
    sets: list[TableRow] = []
    for model in results.evaluations:
        for extraction in EXTRACTIONS:
            cells = {
                metric["metric"].removeprefix(f"{extraction}_"): metric
                for metric in results.task_metrics(model, "sampled")
                if metric["metric"].startswith(f"{extraction}_")
            }
            if cells:
                n = next(iter(cells.values()))["n"]
                sampled.append({"model": model, "name": extraction, "n": n, "cells": cells})
        greedy = results.task_metrics(model, "greedy")
        prompts += _rows([metric for metric in greedy if metric["set"] == "test"], "prompt", model)
        sets += _rows([metric for metric in greedy if metric["prompt"] == TRAINED], "set", model)
    return {
        "sampled": sampled,
        "prompts": prompts if len({row["name"] for row in prompts}) > 1 else [],
        "sets": sets if len({row["name"] for row in sets}) > 1 else [],
    }


def _rows(metrics: list[TaskMetric], key: Literal["prompt", "set"], model: str) -> list[TableRow]:
    """One row per prompt or set."""
    rows: dict[str, TableRow] = {}
    for metric in metrics:
        name = metric[key]
        row = rows.setdefault(name, {"model": model, "name": name, "n": metric["n"], "cells": {}})
        row["cells"][metric["metric"]] = metric
    return list(rows.values())
