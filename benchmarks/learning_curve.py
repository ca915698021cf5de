"""Does training with four prompts per step learn as much from each prompt as training with one?

    python benchmarks/learning_curve.py --out curve.json                                    # on one CUDA GPU
    python benchmarks/learning_curve.py --recipe tiny --prompts 1024 --seeds 43 44 --out curve.json     # without a GPU

The script trains the recipe twice from the same base model on the same prompts, with one and with four prompts per
optimizer step, and evaluates both on the validation questions after the same numbers of prompts.  Both generate for 64
prompts at once, and a batch consists of whole groups.  The learning rate grows with the square root of the batch, as is
usual for Adam, or with another power of it (`--power 1`).
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from gsm8k_grpo.config import params
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.files import read_jsonl
from scratch_gpu import pipeline

COMPLETIONS = 8  # per prompt
GENERATED = 64  # prompts per generation
# Learning rates for one prompt per step: the recipes' rates, which are for eight and two, over the square root.
RATES = {"scratch-gpu": 1.0e-4 / 8**0.5, "tiny": 2.0e-4 / 2**0.5}
# Prompts per epoch, as in the runs of docs/benchmarks.md.
EPOCH = {"scratch-gpu": 1024, "tiny": 400}
VALIDATION = 1000
VARIANTS = {"one": 1, "four": 4}  # prompts per step


def settings(variant: str, options: argparse.Namespace) -> list[str]:
    """Overrides for Snakemake's --config: train a variant on `options.prompts` prompts."""
    prompts, seen = VARIANTS[variant], options.prompts
    train = {
        "prompts": EPOCH[options.recipe],
        "per_device_train_batch_size": COMPLETIONS * prompts,
        "steps_per_generation": GENERATED // prompts,
        "learning_rate": RATES[options.recipe] * prompts**options.power,
        "save_steps": seen // prompts,
        "share_prompts": True,
    }
    return [
        f"recipe={options.recipe}",
        f"seeds={json.dumps(options.seeds)}",
        f"extract={json.dumps({'validation_rows': VALIDATION})}",
        f"keep_checkpoints={json.dumps([seen // part // prompts for part in (8, 4, 2)])}",
        f"variants={json.dumps({variant: {'max_steps': seen // prompts}})}",
        f"train={json.dumps(train)}",
        f"evaluate={json.dumps({'samples': 0, 'prompts': []})}",  # only the validation questions matter here
    ]


def seconds_until(history: pd.DataFrame) -> dict[int, float]:
    """Seconds of training by the number of prompts seen until then."""
    seconds = history.filter(regex="^seconds_").sum(axis=1).cumsum()
    return dict(zip(history["prompts_seen"], seconds, strict=True))


def curve(run: str) -> list[dict]:
    """The accuracies of a run at its kept checkpoints and at its end, with the seconds of training until then."""
    seconds = seconds_until(pd.read_csv(f"results/train/{run}/history.csv"))
    rows = read_jsonl(Path("results/evaluate") / run / "checkpoints.jsonl")
    return [row | {"seconds": round(seconds[row["prompts_seen"]], 1)} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=list(RATES), default="scratch-gpu", help="the recipe to train")
    parser.add_argument("--prompts", type=int, default=2048, help="prompts per run, a multiple of 64")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="further seeds of training and sampling")
    parser.add_argument("--power", type=float, default=0.5, help="the learning rate grows with this power of the batch")
    parser.add_argument("--only", choices=list(VARIANTS), help="train one variant only")
    parser.add_argument("--out", type=Path, default=Path("curve.json"), help="JSON file for the results")
    options = parser.parse_args()
    curves = {}
    print("| run | prompts per step | prompts seen | strict, 95 % | seconds of training |\n|---|---|---|---|---|")
    for variant in [options.only] if options.only else VARIANTS:
        overrides = settings(variant, options)
        runs = params.load(Path("params.yaml"), dict(map(parse_override, overrides))).runs[variant].values()
        for run in runs:
            pipeline([f"results/evaluate/{run}/metrics.json"], overrides)
            curves[run] = curve(run)
            for row in curves[run]:
                low, high = (100 * bound for bound in row["strict_accuracy_ci95"])
                share = f"{100 * row['strict_accuracy']:.1f} % ({low:.1f} to {high:.1f})"
                seen, seconds = row["prompts_seen"], row["seconds"]
                print(f"| {run} | {VARIANTS[variant]} | {seen} | {share} | {seconds} |", flush=True)
            options.out.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
