"""Stage `compare`: is a difference between two models real, and where does it come from?

Reads the answers of every model to the same questions, writes `results/compare/`:
- `comparison.json`, a list of `{a, b, metric, difference, ci95, p_value, n, fixed, broken, p_holm}`, where
  `difference` is b minus a, and `p_holm` is `p_value` after Holm's correction over all rows;
- `gains.json`, a list of `{a, b, n, fixed, broken, points}`: the strict difference by kinds, see gains.py;
- `seeds.json`, a list of `{variant, metric, seeds, values, mean, sd}`: the spread over the seeds, see seeds.py.

The first two are of the first seed's models alone.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from gsm8k_grpo.analysis.metrics import ACCURACIES
from gsm8k_grpo.analysis.significance import holm, mcnemar_p, mean_interval
from gsm8k_grpo.config.sections import Compare
from gsm8k_grpo.files import PipelineError, read_jsonl, write_json
from gsm8k_grpo.stages.compare.attribution import attribute
from gsm8k_grpo.stages.compare.seeds import spread


def compare(evaluated: Path, runs: Mapping[str, Mapping[int, str]], target: Path, params: Compare, seed: int) -> None:
    """Run the stage: every later model of base and the variants against every earlier one, on each accuracy.

    Args:
        evaluated: the folder of evaluate.
        runs: the names of each variant's runs by seed, as `Params.runs`.
        seed: of the bootstrap; the runs with the first seed are those compared.
    """
    named = ["base", *(run for by_seed in runs.values() for run in by_seed.values())]
    answers = {model: read_jsonl(evaluated / model / "answers.jsonl") for model in named}
    pairs = list(itertools.combinations(["base", *runs], 2))
    rows = [
        {"a": a, "b": b, "metric": metric} | paired(answers[a], answers[b], key, params.resamples, seed)
        for a, b in pairs
        for metric, key in ACCURACIES.items()
    ]
    corrected = holm([row["p_value"] for row in rows])
    spreads = [
        {"variant": variant, "metric": metric}
        | spread({seed: fmean(row[key] for row in answers[run]) for seed, run in by_seed.items()})
        for variant, by_seed in runs.items()
        for metric, key in ACCURACIES.items()
    ]
    write_json(target / "seeds.json", spreads)
    write_json(target / "gains.json", [{"a": a, "b": b} | attribute(answers[a], answers[b]) for a, b in pairs])
    write_json(target / "comparison.json", [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)])


def paired(a: list[dict[str, Any]], b: list[dict[str, Any]], key: str, resamples: int, seed: int) -> dict[str, Any]:
    """Difference, bootstrap interval over questions, exact McNemar p, and the questions won and lost."""
    if [(row["id"], row["question"]) for row in a] != [(row["id"], row["question"]) for row in b]:
        raise PipelineError("compare: the two models answered different questions; evaluate both anew")
    before, after = [row[key] for row in a], [row[key] for row in b]
    differences = [int(y) - int(x) for x, y in zip(before, after, strict=True)]
    return {
        "difference": sum(differences) / len(differences),
        "ci95": mean_interval(differences, resamples, seed),
        "p_value": mcnemar_p(before, after),
        "n": len(differences),
        "fixed": differences.count(1),
        "broken": differences.count(-1),
    }
