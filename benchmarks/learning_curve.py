"""Do four prompts a step teach as much from a prompt as one does?  The recipe scratch-gpu, on one CUDA card,

    python benchmarks/learning_curve.py --out curve.json

trained twice from the same base on the same prompts, with one and with four prompts an optimizer step, and asked the
validation questions after equal numbers of prompts.  Generations are of 64 prompts in both; the learning rate grows
with the square root of the batch, as is usual for Adam.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from gsm8k_grpo.files import read_jsonl
from scratch_gpu import pipeline

COMPLETIONS = 8  # a prompt
GENERATED = 64  # prompts at once
RATE = 1.0e-4 / 8**0.5  # of one prompt a step; the recipe takes 1e-4 for eight
VALIDATION = 1000
VARIANTS = {"one": 1, "four": 4}  # prompts a step


def settings(variant: str, prompts: int, seen: int) -> list[str]:
    """Overrides for Snakemake's --config, of a variant that takes `prompts` a step and sees `seen` in all."""
    train = {
        "per_device_train_batch_size": COMPLETIONS * prompts,
        "steps_per_generation": GENERATED // prompts,
        "learning_rate": RATE * prompts**0.5,
        "save_steps": seen // prompts,
    }
    return [
        "recipe=scratch-gpu",
        f"extract={json.dumps({'validation_rows': VALIDATION})}",
        f"keep_checkpoints={json.dumps([seen // part // prompts for part in (8, 4, 2)])}",
        f"variants={json.dumps({variant: {'max_steps': seen // prompts}})}",
        f"train={json.dumps(train)}",
    ]


def seconds_until(history: pd.DataFrame) -> dict[int, float]:
    """Seconds of training until each number of prompts was seen."""
    seconds = history.filter(regex="^seconds_").sum(axis=1).cumsum()
    return dict(zip(history["prompts_seen"], seconds, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=2048, help="prompts that each of the two sees, a multiple of 64")
    parser.add_argument("--out", type=Path, default=Path("curve.json"))
    options = parser.parse_args()
    found = {}
    print("| prompts a step | prompts seen | strict, 95 % | seconds of training |\n|---|---|---|---|")
    for variant, prompts in VARIANTS.items():
        pipeline([f"results/evaluate/{variant}/metrics.json"], settings(variant, prompts, options.prompts))
        seconds = seconds_until(pd.read_csv(f"results/train/{variant}/history.csv"))
        found[variant] = [
            row | {"seconds": round(seconds[row["prompts_seen"]], 1)}
            for row in read_jsonl(Path("results/evaluate") / variant / "checkpoints.jsonl")
        ]
        for row in found[variant]:
            low, high = (100 * bound for bound in row["strict_accuracy_ci95"])
            share = f"{100 * row['strict_accuracy']:.1f} % ({low:.1f} to {high:.1f})"
            print(f"| {prompts} | {row['prompts_seen']} | {share} | {row['seconds']} |", flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
