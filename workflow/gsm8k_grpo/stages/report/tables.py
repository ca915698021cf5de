"""The metrics of every model as tables: of sampled answers, other prompts, other test sets, and the probe for leaks."""

from typing import Literal, TypedDict

from gsm8k_grpo.analysis.metrics import EXTRACTIONS, NUMBER_RATES
from gsm8k_grpo.records import TaskMetric
from gsm8k_grpo.stages.evaluate.tasks import CONTINUATION, TRAINED
from gsm8k_grpo.stages.report.results import Results


class TableRow(TypedDict):
    """A row of a table: one model with one way of extracting, one prompt or one set."""

    model: str
    name: str
    """The name of the way of extracting, of the prompt, or of the set."""
    n: int
    cells: dict[str, TaskMetric]
    """The metrics by name, without the prefix for the way of extracting."""


def tables(results: Results) -> dict[str, list[TableRow]]:
    """The tables `sampled`, `prompts`, `sets`, `unanswerable` and `continuations`.

    A table is empty if the run has nothing to show in it.
    """
    sampled: list[TableRow] = []
    prompts: list[TableRow] = []
    sets: list[TableRow] = []
    unanswerable: list[TableRow] = []
    continuations: list[TableRow] = []
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
        answered = [metric for metric in greedy if metric["prompt"] != CONTINUATION]
        graded = [metric for metric in answered if metric["metric"] not in NUMBER_RATES]
        prompts += _rows([metric for metric in graded if metric["set"] == "test"], "prompt", model)
        sets += _rows([metric for metric in graded if metric["prompt"] == TRAINED], "set", model)
        unanswerable += _rows([metric for metric in answered if metric["metric"] in NUMBER_RATES], "set", model)
        continuations += _rows([metric for metric in greedy if metric["prompt"] == CONTINUATION], "set", model)
    return {
        "sampled": sampled,
        "prompts": prompts if len({row["name"] for row in prompts}) > 1 else [],
        "sets": sets if len({row["name"] for row in sets}) > 1 else [],
        "unanswerable": unanswerable,
        "continuations": continuations,
    }


def _rows(metrics: list[TaskMetric], key: Literal["prompt", "set"], model: str) -> list[TableRow]:
    """One row per prompt or set."""
    rows: dict[str, TableRow] = {}
    for metric in metrics:
        name = metric[key]
        row = rows.setdefault(name, {"model": model, "name": name, "n": metric["n"], "cells": {}})
        row["cells"][metric["metric"]] = metric
    return list(rows.values())
