"""Stage `compare`: is a difference between two models real, and where does it come from?

Reads the answers of every model to the same questions, and writes `results/compare/`:

- `comparison.json`, rows of `{a, b, metric, difference, ci95, p_value, n, fixed, broken, p_holm}`, where `difference`
  is b minus a, and `p_holm` is `p_value` after Holm's correction over all rows;
- `gains.json`, rows of `{a, b, n, fixed, broken, points}`: the strict difference by what changed (see attribution.py);
- `seeds.json`, rows of `{variant, metric, seeds, values, mean, sd}`: the spread over seeds (see seeds.py).

The first two compare the models of the first seed only.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from gsm8k_grpo.analysis.metrics import ACCURACIES, metric_value
from gsm8k_grpo.analysis.significance import holm, mcnemar_p, mean_interval
from gsm8k_grpo.config.sections import Compare
from gsm8k_grpo.files import PipelineError, read_jsonl, write_json
from gsm8k_grpo.records import Attribution, Comparison, GradedAnswer, PairedDifference, SeedSpread
from gsm8k_grpo.stages.compare.attribution import attribute
from gsm8k_grpo.stages.compare.seeds import spread

Answers = Mapping[str, list[GradedAnswer]]


def compare(evaluated: Path, runs: Mapping[str, Mapping[int, str]], target: Path, params: Compare, seed: int) -> None:
    """Run the stage: compare every model with every earlier one in the order base, then the variants.

    Args:
        evaluated: the folder of the stage evaluate.
        runs: for each variant, the names of its runs by seed, as in `Params.runs`.
        target: the folder to write.
        params: the section `compare` of the configuration.
        seed: the first seed, which the bootstrap uses; the runs with this seed are compared with each other.
    """
    models = ["base", *(run for by_seed in runs.values() for run in by_seed.values())]
    answers: Answers = {model: read_jsonl(evaluated / model / "answers.jsonl") for model in models}
    pairs = list(itertools.combinations(["base", *runs], 2))
    comparisons = _comparisons(answers, pairs, params.resamples, seed)
    attributions: list[Attribution] = [{"a": a, "b": b, **attribute(answers[a], answers[b])} for a, b in pairs]
    write_json(target / "seeds.json", _spreads(answers, runs))
    write_json(target / "gains.json", attributions)
    write_json(target / "comparison.json", comparisons)


def _comparisons(answers: Answers, pairs: list[tuple[str, str]], resamples: int, seed: int) -> list[Comparison]:
    differences = [
        (a, b, metric, paired_difference(answers[a], answers[b], key, resamples, seed))
        for a, b in pairs
        for metric, key in ACCURACIES.items()
    ]
    corrected = holm([difference["p_value"] for *_, difference in differences])
    return [
        {"a": a, "b": b, "metric": metric, **difference, "p_holm": p}
        for (a, b, metric, difference), p in zip(differences, corrected, strict=True)
    ]


def _spreads(answers: Answers, runs: Mapping[str, Mapping[int, str]]) -> list[SeedSpread]:
    return [
        {
            "variant": variant,
            "metric": metric,
            **spread({seed: fmean(metric_value(row, key) for row in answers[run]) for seed, run in by_seed.items()}),
        }
        for variant, by_seed in runs.items()
        for metric, key in ACCURACIES.items()
    ]


def paired_difference(
    a: list[GradedAnswer], b: list[GradedAnswer], key: str, resamples: int, seed: int
) -> PairedDifference:
    """The difference of two models in the share of questions whose `key` is true, with interval, p value and counts.

    Raises:
        PipelineError: if the models answered different questions.
    """
    if [(row["id"], row["question"]) for row in a] != [(row["id"], row["question"]) for row in b]:
        raise PipelineError("compare: the two models answered different questions; evaluate both again")
    before, after = ([bool(metric_value(row, key)) for row in rows] for rows in (a, b))
    differences = [int(y) - int(x) for x, y in zip(before, after, strict=True)]
    return {
        "difference": sum(differences) / len(differences),
        "ci95": mean_interval(differences, resamples, seed),
        "p_value": mcnemar_p(before, after),
        "n": len(differences),
        "fixed": differences.count(1),
        "broken": differences.count(-1),
    }
