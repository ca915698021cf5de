"""Sentences on what GRPO could learn from before training, and on what it met during training."""

from collections.abc import Mapping

from gsm8k_grpo.analysis.formatting import interval, joined, percent
from gsm8k_grpo.analysis.metrics import TOTAL
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.records import Evaluation, RewardSignal, TrainingMetrics

LOW = 0.1  # with a smaller share of prompts, training learns nothing from nearly all groups


def signal_lines(evaluations: Mapping[str, Evaluation], params: Params) -> list[str]:
    """For each model that GRPO starts from, one line with the share of the prompts that have a signal, by reward."""
    lines = []
    for model in trained_by_rewards(params):
        if model in evaluations and evaluations[model]["signal"]:
            rows = evaluations[model]["signal"]
            shares = ", ".join(f"{row['reward']} {percent(row['share'])}" for row in reversed(rows))
            lines.append(f"{model}, {rows[0]['samples']} answers to each of {rows[0]['n']:,} prompts: {shares}")
    return lines


def low_signal(evaluations: Mapping[str, Evaluation], params: Params) -> list[str]:
    """A sentence for each model that GRPO starts from and whose sampled answers rarely differ in their rewards."""
    sentences = []
    for model, variants in trained_by_rewards(params).items():
        if model not in evaluations:  # a kept checkpoint
            continue
        rows = {row["reward"]: row for row in evaluations[model]["signal"]}
        total = rows.pop(TOTAL, None)
        by_answer = [row for name, row in rows.items() if params.rewards.uses_answer(name)]
        best = max(by_answer, key=lambda row: row["share"], default=None)
        if total is not None and total["share"] < LOW:
            sentences.append(
                f"{_differ(model, total)}, so {joined(variants)} had little to learn from: groups with equal rewards "
                "teach nothing."
            )
        elif best is not None and best["share"] < LOW:
            sentences.append(
                f"{_differ(model, best, best['reward'])}, so {joined(variants)} could learn the form of answers, but "
                "hardly which are right."
            )
    return sentences


def training_signal(training: Mapping[str, TrainingMetrics]) -> str | None:
    """One sentence about the share of groups without a signal in each run; None if no run's method has groups."""
    shares = {name: run["share_without_signal"] for name, run in training.items()}
    known = [f"{percent(share)} of {name}'s" for name, share in shares.items() if share is not None]
    if not known:
        return None
    return f"Groups whose rewards were all equal, from which GRPO learns nothing: {joined(known)}."


def training_notes(training: Mapping[str, TrainingMetrics]) -> list[str]:
    """A line for each warning of a run, and for each run that was stopped before its end."""
    lines = []
    for name, run in training.items():
        lines += [f"{name}, step {warning['step']:,}: {warning['text']}." for warning in run["warnings"]]
        if run["stopped_at"] is not None:
            steps = run["effective_config"]["max_steps"]
            lines.append(f"{name} was stopped after step {run['stopped_at']:,} of {steps:,}: {run['stop_reason']}.")
    return lines


def trained_by_rewards(params: Params) -> dict[str, list[str]]:
    """Each model that variants with the rewards of the section `rewards` start from, with these variants."""
    variants: dict[str, list[str]] = {}
    for name, variant in params.variants.items():
        if params.traits(name).learns_from_rewards and variant.rewards is None:
            variants.setdefault(variant.start or "base", []).append(name)
    return variants


def _differ(model: str, row: RewardSignal, reward: str = "") -> str:
    what = f"the reward {reward}" if reward else "their rewards"
    return (
        f"On only {percent(row['share'])} of {row['n']:,} prompts (95 % CI {interval(*row['ci95'])}) do "
        f"{row['samples']} sampled answers of {model} differ in {what}"
    )
