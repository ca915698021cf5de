"""The measures of every model as tables: sampled answers, baseline prompts, other test sets."""

from typing import Any

from gsm8k_grpo.stages.evaluate.tasks import TRAINED
from gsm8k_grpo.stages.report.results import Results, Rows


def tables(found: Results) -> dict[str, Rows]:
    """The measures as tables: `sampled`, `prompts` and `sets`, each empty where nothing of it was measured.

    A row has the model, the parser or the prompt or the set, `n`, and `cells`, a measure by the name of its metric.
    """
    sampled, prompts, sets = [], [], []
    for model in found.evaluations:
        for parser in ("strict", "flexible"):
            cells = {
                measure["metric"].removeprefix(f"{parser}_"): measure
                for measure in found.measures(model, "sampled")
                if measure["metric"].startswith(f"{parser}_")
            }
            if cells:
                asked = next(iter(cells.values()))["n"]
                sampled.append({"model": model, "parser": parser, "n": asked, "cells": cells})
        greedy = found.measures(model, "greedy")
        on_test = [measure for measure in greedy if measure["set"] == "test"]
        trained = [measure for measure in greedy if measure["prompt"] == TRAINED]
        prompts += _by(on_test, "prompt", model)
        sets += _by(trained, "set", model)
    return {
        "sampled": sampled,
        "prompts": prompts if len({row["prompt"] for row in prompts}) > 1 else [],
        "sets": sets if len({row["set"] for row in sets}) > 1 else [],
    }


def _by(measures: Rows, key: str, model: str) -> Rows:
    rows: dict[str, dict[str, Any]] = {}
    for measure in measures:
        row = rows.setdefault(measure[key], {"model": model, key: measure[key], "n": measure["n"], "cells": {}})
        row["cells"][measure["metric"]] = measure
    return list(rows.values())
