"""Unsloth's claim of February 2025, measured: GRPO takes 80 % less memory than with Hugging Face and FlashAttention-2.

    python benchmarks/memory_claim.py --out memory_claim.json       # on a machine with a GPU; needs no network
    python benchmarks/memory_claim.py --plan                        # the memory plans of all sides, on any machine
    python benchmarks/memory_claim.py --small                       # tries the script without a GPU

The claim is for a model of 1.5 billion parameters in 7 GB, which is the recipe `vram7gb`.  How the side of Hugging Face
was set is not published, so there are several; each trains a few steps on the same prompts, with six completions of 200
tokens and random weights of the model's shape, as in recipes.py:

- unsloth: the recipe, 4 bit, adapters, Unsloth with vLLM in the same memory
- adapters: TRL and transformers in bfloat16 with the same adapters, every activation kept
- adapters, recomputed: the same with gradient checkpointing
- all weights: TRL and transformers, all weights in bfloat16, a reference model for the KL term, activations kept

Attention is PyTorch's own, whose memory grows with the length as that of FlashAttention-2 does, since the package
flash-attn is not in envs/cuda.txt.  The peak is that of the whole GPU, so no other process may use it.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from gsm8k_grpo.memory import plan, shapes
from recipes import SMALL, SMALL_SHAPE, measure, settings_of

RECIPE, CLAIM, CLAIMED_GIB = "vram7gb", 0.80, 7.0
HUGGING_FACE = {
    "backend": "trl", "engine": "transformers", "quantization": None, "vllm": None, "vram_gib": None,
    "train.gradient_checkpointing": False,
}  # fmt: skip
SIDES: dict[str, dict[str, Any]] = {
    "unsloth": {},
    "adapters": HUGGING_FACE,
    "adapters, recomputed": HUGGING_FACE | {"train.gradient_checkpointing": True},
    "all weights": HUGGING_FACE | {"lora": None},
}


def planned_gib(side: str) -> float:
    settings = settings_of(RECIPE, 1, None, SIDES[side])
    return plan.plan(settings, shapes.shape_of(settings)).gib


def saved(gib: float, other: float) -> float:
    """The share of the other side's memory that is not taken."""
    return 1 - gib / other


def lines(gib: dict[str, float]) -> list[str]:
    """The memory of each side, and how much less the first one takes; a side that failed is left out."""
    first = next(iter(SIDES))
    return [
        f"{side}: {gib[side]:.2f} GiB"
        + ("" if side == first or first not in gib else f"; {first} takes {saved(gib[first], gib[side]):.0%} less")
        for side in SIDES
        if side in gib
    ]


def main(
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 5,
    path: Annotated[Path | None, typer.Option(help="Folder with the real GSM8K; default: generated problems.")] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Only compute the memory plans.")] = False,
    small: Annotated[bool, typer.Option("--small", help="Try the script with a tiny model on the CPU.")] = False,
    out: Annotated[Path, typer.Option(help="JSON file for the results.")] = Path("memory_claim.json"),
) -> None:
    print(f"claimed: {CLAIM:.0%} less, in {CLAIMED_GIB:g} GB", flush=True)
    if only_plan:
        print("\n".join(lines({side: planned_gib(side) for side in SIDES})))
        return
    results: dict[str, Any] = {}
    for side, changes in SIDES.items():
        settings = settings_of(RECIPE, steps, path and path.resolve(), changes | (SMALL if small else {}))
        try:
            results[side] = measure(side.replace(", ", "-").replace(" ", "-"), settings, SMALL_SHAPE if small else {})
        except RuntimeError as error:
            results[side] = {"error": str(error)}
            print(f"{side}: {error}", flush=True)
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print("\n".join(lines({side: result["peak_gib"] for side, result in results.items() if "error" not in result})))
    sys.exit(any("error" in result for result in results.values()))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        typer.run(main)
