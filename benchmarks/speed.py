"""Training speed on one GPU: the published recipe, plain TRL, and this project's settings, one after the other.

    python benchmarks/speed.py --data FOLDER [--only NAME ...] [--out speed.json]

Each runs `gsm8k-grpo train` with the model shape of the recipe rtx4090 and random weights: 6 completions per prompt,
all of which reach the limit of 200 tokens, and adapters of rank 32.  Rewards are drawn at random, because random
weights never earn one and a group whose rewards are all equal is not computed.  FOLDER holds train.jsonl and
test.jsonl as GSM8K publishes them.  The first generations, which compile, are left out of the seconds.  The results
also give the share of the GPU's arithmetic that the update reaches (MFU) and the share of its bandwidth that decoding
reaches, see roofline.py.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import pandas as pd
import roofline
from gsm8k_grpo.config import params
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.memory import shapes
from gsm8k_grpo.stages.base.corpus import Document
from random_model import filled_tokenizer, write_model
from recipes import RANDOM_REWARDS, stage
from roofline import Limits, Work
from transformers import AutoConfig

ROOT = Path(__file__).resolve().parent.parent
MODEL = "Qwen/Qwen2.5-3B"
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16}
COMMON = {
    "source": "local", "extract.validation_rows": 0, "evaluate.sets": {}, "keep_checkpoints": [],
    "train.save_steps": 10000, "train.sample_prompts": 1,
}  # fmt: skip
PLAIN = {"backend": "trl", "vram_gib": None}  # 25 GiB, because vLLM has a copy of the weights
WIDE = {
    "vram_gib": None, "vllm": {"kv_cache_gib": 16, "max_num_seqs": 384, "sleep": False},
    "train.per_device_train_batch_size": 24, "train.steps_per_generation": 16,
}  # fmt: skip
GRAPHS = {"engine": "graphs", "vllm": None, "graphs": {"kv_cache_gib": 4, "max_num_seqs": 282, "compile": True}}
GRAPHS_WIDE = WIDE | GRAPHS | {"graphs": {"kv_cache_gib": 16, "max_num_seqs": 384, "compile": True}}
CUDA_GRAPHS = GRAPHS | {"train.cuda_graphs": True, "vram_gib": None}  # 31 GiB, since they keep activations
RECOMPUTED = GRAPHS | {"train.cuda_graphs": True, "train.gradient_checkpointing": True}  # planned 20.3 GiB
TWO_GPUS = {"gpus": 2, "train.per_device_train_batch_size": 48}
# name: recipe, changes to it, optimizer steps, and how many of them are left out at the beginning
RUNS = {
    "published": ("rtx4090-published", {}, 14, 4),
    "plain TRL": ("rtx4090-published", PLAIN, 14, 4),
    "rtx4090": ("rtx4090", {}, 188, 94),
    "rtx4090, graphs": ("rtx4090", GRAPHS, 188, 94),
    "rtx4090, graphs, update by CUDA graphs": ("rtx4090", CUDA_GRAPHS, 188, 94),
    "rtx4090, graphs, update by CUDA graphs, recomputed": ("rtx4090", RECOMPUTED, 188, 94),
    "rtx4090, graphs, rloo": ("rtx4090", GRAPHS | {"method": "rloo"}, 188, 94),
    "rtx4090, graphs, ppo": ("rtx4090", GRAPHS | {"method": "ppo", "vram_gib": None}, 188, 94),
    "rtx4090, 4 prompts per step": ("rtx4090", WIDE, 64, 16),
    "rtx4090, graphs, 4 prompts per step": ("rtx4090", GRAPHS_WIDE, 64, 16),
    "rtx4090, 4 prompts per step on each of 2 GPUs": ("rtx4090", WIDE | TWO_GPUS, 64, 16),
    "rtx4090, graphs, 4 prompts per step on each of 2 GPUs": ("rtx4090", GRAPHS_WIDE | TWO_GPUS, 64, 16),
}  # fmt: skip


def run(name: str, work: Path, model: Path, data: Path, limits: Limits) -> dict:
    """Train, and read the speed from history.csv and metrics.json."""
    recipe, changes, steps, left_out = RUNS[name]
    folder = work / name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    overrides = COMMON | {"recipe": recipe, "path": str(data), "model": str(model)} | changes
    settings = params.load(
        ROOT / "params.yaml", overrides | {"variants": {"short": {"max_steps": steps} | RANDOM_REWARDS}}
    )
    began = time.perf_counter()
    try:
        for command in (["download"], ["extract"], ["base"], ["train", "--variant", "short"]):
            stage(folder, settings, *command)
    except RuntimeError as error:
        print(f"{name}: {error}", flush=True)
        return {"name": name, "failed": command[0]}
    return measured(name, folder, left_out, settings, limits) | {
        "seconds_in_all": round(time.perf_counter() - began, 1)
    }


def measured(name: str, folder: Path, left_out: int, settings: params.Params, limits: Limits) -> dict:
    """The speed of a run without its first `left_out` steps, relative to the limits of the GPU."""
    whole = pd.read_csv(folder / "results/train/short/history.csv")
    metrics = json.loads((folder / "results/train/short/metrics.json").read_text())
    completion = whole["completion_tokens"].mean()
    # TRL counts a prompt's tokens once for each of its completions.
    prompt = metrics["tokens"] / metrics["prompts_seen"] / settings.train.num_generations - completion
    history = whole.iloc[left_out:]
    prompts = (
        history["prompts_seen"].iloc[-1] - history["prompts_seen"].iloc[0] + history["prompts_seen"].diff().iloc[-1]
    )
    seconds = {key: history[f"seconds_{key}"].sum() / prompts for key in ("generate", "score", "update")}
    per_prompt = work(settings, shapes.shape_of(settings), prompt, completion)
    figures = {
        "name": name, "steps": len(history), "prompts_per_s": 1 / sum(seconds.values()), **seconds,
        "completion_tokens_per_s": settings.train.num_generations * completion / sum(seconds.values()),
        **roofline.utilisation(per_prompt, limits, *(settings.gpus * seconds[key] for key in ("generate", "update"))),
        "peak_memory_gib": metrics["peak_memory_gib"], "grad_norm": history["grad_norm"].mean(),
    }  # fmt: skip
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}


def work(settings: params.Params, shape: shapes.Shape, prompt: float, completion: float) -> Work:
    """The work for one prompt of these lengths in tokens."""
    train = settings.train.of_one_gpu(settings.gpus)
    sequences = train.per_device_train_batch_size * train.steps_per_generation
    engine = settings.graphs if settings.engine == "graphs" else settings.vllm
    return Work(shape, prompt, completion, train.num_generations, train.share_prompts, sequences, engine.max_num_seqs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--work", type=Path, default=Path("speed"), help="working folder, emptied first")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS), help="runs to measure")
    parser.add_argument("--out", type=Path, default=Path("speed.json"), help="JSON file for the results")
    parser.add_argument("--tiny", action="store_true", help="try the script with a small model")
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    began = time.perf_counter()
    questions = [row["question"] for row in read_jsonl(options.data / "train.jsonl")]
    kind, published = shapes.PUBLISHED[MODEL]
    config = AutoConfig.for_model(kind, **published | (TINY if options.tiny else {}))
    documents = [Document([], question) for question in questions]
    write_model(options.work / "model", config, filled_tokenizer(documents, config.vocab_size))
    print(f"model created in {time.perf_counter() - began:.0f} s", flush=True)
    limits = roofline.measure()
    print(f"GPU: {limits.flops / 1e12:.0f} TFLOP/s, {limits.bandwidth / 1e12:.2f} TB/s", flush=True)
    rows = []
    for name in options.only:
        rows.append(
            run(name, options.work.resolve(), (options.work / "model").resolve(), options.data.resolve(), limits)
        )
        print(json.dumps(rows[-1]), flush=True)
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
