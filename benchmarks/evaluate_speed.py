"""How long the evaluation stage takes on one GPU, task by task: Qwen2.5-3B's shape, 8 samples per question.

    python benchmarks/evaluate_speed.py --data FOLDER --out evaluate_speed.json     # on a machine with a CUDA GPU
    python benchmarks/evaluate_speed.py --small                                     # tries the script without a GPU

FOLDER holds train.jsonl and test.jsonl as GSM8K publishes them.  The model has random weights and never ends an answer,
so every answer has the full length of `--tokens`, which is the most work that the stage can have.
"""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from gsm8k_grpo.config import params
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.files import read_json, read_jsonl
from gsm8k_grpo.memory import shapes
from gsm8k_grpo.stages.base.corpus import Document
from random_model import filled_tokenizer, write_model
from recipes import ROOT, SMALL, SMALL_SHAPE, stage
from transformers import AutoConfig

WORK = ROOT / ".work" / "evaluate-speed"  # ignored by git
MODEL = "Qwen/Qwen2.5-3B"
SETTINGS = {
    "recipe": "rtx4090", "extract.validation_rows": 0, "keep_checkpoints": [], "vram_gib": None, "lora": None,
    # vLLM's CUDA graphs hold up to 512 sequences; with more at a time the host launches every layer.
    "vllm": {"max_model_length": 768, "max_num_seqs": 512, "kv_cache_gib": 20, "sleep": False},
    "evaluate.samples": 8, "evaluate.sets": {}, "evaluate.prompts": [],
}  # fmt: skip
SMALL_DATA = {
    "source": "generated", "path": None, "download.generated": {"problems": "rich", "train_rows": 400, "test_rows": 20},
    "train.prompts": None, "evaluate.max_model_length": None,
}  # fmt: skip


def settings_of(data: Path | None, tokens: int, small: bool, overrides: dict[str, Any]) -> params.Params:
    """The configuration of the evaluation, with `overrides` over it; `small` is for a CPU."""
    settings = SETTINGS | {"evaluate.max_completion_length": tokens}
    if data:
        settings |= {"source": "local", "path": str(data.resolve())}
    if small:
        settings |= SMALL_DATA | SMALL
    return params.load(ROOT / "params.yaml", settings | overrides)


def measure(settings: params.Params, small: bool) -> dict[str, Any]:
    """Run the stages up to the evaluation of the base model; the seconds of the whole command and of each task."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", WORK)
    for command in ("download", "extract"):
        stage(WORK, settings, command)
    rows = read_jsonl(WORK / "results/extract/train.jsonl")
    kind, published = shapes.PUBLISHED[MODEL]
    config = AutoConfig.for_model(kind, **published | (SMALL_SHAPE if small else {}))
    tokenizer = filled_tokenizer([Document(row["prompt"], row["solution"]) for row in rows], config.vocab_size)
    write_model(WORK / "model", config, tokenizer)
    settings = settings.model_copy(update={"model": str(WORK / "model")})
    stage(WORK, settings, "base")
    began = time.perf_counter()
    stage(WORK, settings, "evaluate", "--model", "base")
    seconds = time.perf_counter() - began
    shutil.rmtree(WORK / "model")
    timing = read_json(WORK / "results/evaluate/base/metrics.json")["timing"]
    answering = sum(row["seconds"] for row in timing)
    return {
        "seconds": round(seconds, 1),
        "seconds_answering": round(answering, 1),
        "seconds_starting_and_measuring": round(seconds - answering, 1),
        "tokens_per_second": round(sum(row["completion_tokens"] for row in timing) / answering),
        "tasks": timing,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The result of `measure` for the terminal."""
    tasks = [
        f"  {row['set']}, {row['prompt']}, {row['decoding']}: {row['completions']:,} answers, "
        f"{row['completion_tokens']:,} tokens, {row['seconds']:.1f} s"
        for row in result["tasks"]
    ]
    return [
        f"evaluate: {result['seconds']:.1f} s, of which {result['seconds_answering']:.1f} answering at "
        f"{result['tokens_per_second']:,} tokens per second",
        *tasks,
        f"  start of the engine, grading, metrics: {result['seconds_starting_and_measuring']:.1f} s",
    ]


def main(
    data: Annotated[Path | None, typer.Option(help="Folder with train.jsonl and test.jsonl.")] = None,
    tokens: Annotated[int, typer.Option(help="Length of every answer in tokens.")] = 200,
    small: Annotated[bool, typer.Option("--small", help="Try the script with a tiny model on the CPU.")] = False,
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the configuration.")
    ] = [],
    out: Annotated[Path, typer.Option(help="JSON file for the results.")] = Path("evaluate_speed.json"),
) -> None:
    if data is None and not small:
        raise typer.BadParameter("name the folder of GSM8K with --data FOLDER, or use --small", param_hint="--data")
    settings = settings_of(data, tokens, small, dict(map(parse_override, overrides)))
    result = measure(settings, small)
    print("\n".join(lines(result)), flush=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        typer.run(main)
