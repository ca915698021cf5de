"""The memory plan against a real GPU: each recipe trains a few steps with random weights of its model's shape.

    python benchmarks/recipes.py --out recipes.json                      # on a machine with a GPU; needs no network
    python benchmarks/recipes.py --only rtx4090 --layers 4               # a quick look
    python benchmarks/recipes.py --only rtx3080 --set 'lora={rank: 16, alpha: 16, targets: [q_proj, v_proj]}'
    python benchmarks/recipes.py --small                                 # tries the script without a GPU

Random weights never emit the end token, so every completion has full length, which is the most memory that training can
take.  For supervised fine-tuning answers are repeated to full length.  The plan is computed for the longest prompt in
the data and compared with the peak in metrics.json.  That peak is the memory in use on the whole GPU, so no other
process may use it.  With fewer layers than the model has (`--layers`), the plan for all layers is printed too, for
models that do not fit:
    python benchmarks/recipes.py --only r1-distill-32b --layers 8 --path FOLDER    # train.jsonl and test.jsonl
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from gsm8k_grpo.config import layers, params
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.recipes import read_recipe
from gsm8k_grpo.files import read_json, read_jsonl, write_jsonl
from gsm8k_grpo.memory import plan, shapes
from gsm8k_grpo.stages.base.corpus import Document
from random_model import filled_tokenizer, write_model
from transformers import AutoConfig, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".work" / "benchmark"  # ignored by git
MINUTES = 15  # limit per stage, because rented GPUs are billed by time
# Random weights earn no reward and would have no gradient, so rewards are drawn at random.
RANDOM_REWARDS = {"rewards": {"set": "control", "weights": {"random": 1.0}}}
SMALL_SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "vocab_size": 4096,
}  # fmt: skip
SMALL = {
    "threads": 2, "backend": "trl", "engine": "transformers", "precision": "float32", "quantization": None,
    "vram_gib": None, "lora": None, "vllm": None, "train.optim": "adamw_torch", "train.share_prompts": False,
    "train.compile": False, "train.old_log_probs": "computed", "train.max_completion_length": 16,
    "sft.optim": "adamw_torch", "sft.max_length": 256,
}  # fmt: skip


def published() -> list[str]:
    """The recipes that train a published model."""
    return [name for name in params.recipes() if read_recipe(name)["model"] != "scratch"]


def settings_of(recipe: str, steps: int, path: Path | None, overrides: dict[str, Any]) -> params.Params:
    """The recipe for `steps` steps of the variant short, on as many prompts as they need."""
    supervised = read_recipe(recipe)["method"] == "sft"
    settings = {
        "recipe": recipe,
        "source": "local" if path else "generated",
        "path": str(path) if path else None,
        "variants": {"short": {"max_steps": steps, "start": None} | ({} if supervised else RANDOM_REWARDS)},
        "keep_checkpoints": [],
        "extract.validation_rows": 0,
        "evaluate.sets": {},
        "download.generated": {"problems": "rich", "train_rows": 2000, "test_rows": 1},
        "train.save_steps": 10 * steps,
        **overrides,
    }
    base = params.load(ROOT / "params.yaml", settings)
    if supervised:
        prompts = steps * base.sft.per_device_train_batch_size * base.sft.gradient_accumulation_steps
    else:
        generations = -(-steps // base.train.optimizer_steps_per_generation)
        prompts = generations * base.train.prompts_per_generation
    return params.load(ROOT / "params.yaml", settings | {"train.prompts": prompts})


def with_own_code() -> dict[str, str]:
    """The environment of a process that imports the package of this checkout."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "workflow"), os.environ.get("PYTHONPATH", "")])}


def stage(folder: Path, settings: params.Params, *command: str) -> None:
    """Run a stage in `folder`; its output goes to a log there.

    Raises:
        RuntimeError: with the end of the log, if the stage fails or takes longer than MINUTES.
    """
    environment = with_own_code() | {layers.ENVIRONMENT: settings.model_dump_json()}
    log = folder / f"{'-'.join(command)}.log"
    try:
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.run(
                [sys.executable, "-c", "from gsm8k_grpo.cli import main; main()", *command],
                cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=60 * MINUTES, check=False,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} took more than {MINUTES} minutes:\n{log.read_text()[-3000:]}") from None
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-3000:]}")


def longest_prompt(rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast) -> int:
    """The tokens of the longest prompt."""
    texts = [tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in rows]
    return max(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])


def lengthen(rows: list[dict[str, Any]], tokens: int) -> list[dict[str, Any]]:
    """The rows with their answers repeated to more than `tokens` tokens; a token has at least one character."""
    return [row | {"solution": row["solution"] * (1 + 8 * tokens // len(row["solution"]))} for row in rows]


def measure(recipe: str, settings: params.Params, sizes: dict[str, int]) -> dict[str, Any]:
    """Train; the plan by part, the peak and the seconds per step."""
    folder = WORK / recipe
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    stage(folder, settings, "download")
    stage(folder, settings, "extract")
    rows = read_jsonl(folder / "results/extract/train.jsonl")[: settings.train.prompts]
    kind, published = shapes.PUBLISHED[settings.model]
    config = AutoConfig.for_model(kind, **published | sizes)
    tokenizer = filled_tokenizer([Document(row["prompt"], row["solution"]) for row in rows], config.vocab_size)
    write_model(folder / "model", config, tokenizer)
    prompt = longest_prompt(rows, tokenizer)
    longest = prompt
    if settings.method == "sft":
        longest = settings.sft.max_length
        write_jsonl(folder / "results/extract/train.jsonl", lengthen(rows, longest))
    planned = plan.plan(settings, shapes.measure(config), longest)
    every_layer = {"num_hidden_layers": published["num_hidden_layers"]}
    whole = plan.plan(settings, shapes.measure(AutoConfig.for_model(kind, **published | sizes | every_layer)), longest)
    settings = settings.model_copy(update={"model": str(folder / "model")})
    stage(folder, settings, "base")
    try:
        stage(folder, settings, "train", "--variant", "short")
    finally:
        shutil.rmtree(folder / "model")
    steps = pd.read_csv(folder / "results/train/short/history.csv")
    return {
        "planned_gib": round(planned.gib, 3),
        "parts_gib": {part.name: round(part.gib, 3) for part in planned.parts if part.gib},
        "planned_whole_gib": round(whole.gib, 3),
        "peak_gib": read_json(folder / "results/train/short/metrics.json")["peak_memory_gib"],
        "longest_prompt": prompt,
        "steps": len(steps),
        "seconds_a_step": round(steps.filter(regex="^seconds_").sum(axis=1).mean(), 3),
        "seconds_update_median": round(steps["seconds_update"].median(), 3),
    }


def line(recipe: str, result: dict[str, Any]) -> str:
    """The result of `measure` for the terminal."""
    if "error" in result:
        return f"{recipe}: {result['error']}"
    parts = ", ".join(f"{name} {gib:.2f}" for name, gib in result["parts_gib"].items())
    against = result["planned_gib"] / result["peak_gib"] - 1
    return (
        f"{recipe}: planned {result['planned_gib']:.2f} GiB, peak {result['peak_gib']:.2f} ({against:+.1%}); "
        f"{result['seconds_a_step']:.2f} s per step, update {result['seconds_update_median']:.2f}; {parts}; "
        f"planned for all layers of the model {result['planned_whole_gib']:.2f}"
    )


def main(
    only: Annotated[list[str], typer.Option(metavar="NAME", help="A recipe; repeat the option for more.")] = [],
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 20,
    layer_count: Annotated[
        int, typer.Option("--layers", help="Layers of the model; 0 keeps the model's own number.")
    ] = 0,
    path: Annotated[Path | None, typer.Option(help="Folder with the real GSM8K; default: generated problems.")] = None,
    small: Annotated[bool, typer.Option("--small", help="Try the script with a tiny model on the CPU.")] = False,
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the configuration.")
    ] = [],
    out: Annotated[Path, typer.Option(help="JSON file for the results.")] = Path("recipes.json"),
) -> None:
    changes = (SMALL if small else {}) | dict(map(parse_override, overrides))
    sizes = (SMALL_SHAPE if small else {}) | ({"num_hidden_layers": layer_count} if layer_count else {})
    results: dict[str, Any] = {}
    for recipe in only or published():
        settings = settings_of(recipe, steps, path and path.resolve(), changes)
        try:
            results[recipe] = measure(recipe, settings, sizes)
        except RuntimeError as error:
            results[recipe] = {"error": str(error)}
        print(line(recipe, results[recipe]), flush=True)
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    sys.exit(any("error" in result for result in results.values()))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        typer.run(main)
