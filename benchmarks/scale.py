"""What several GPUs of one host give: one training on them, several jobs side by side, an evaluation, divided weights.

    python benchmarks/scale.py --data FOLDER --model FOLDER [--gpus 2] [--only training jobs] [--out scale.json]
    python benchmarks/scale.py --small --gpus 2                        # tries the script with processes on the CPU

`--data` holds train.jsonl and test.jsonl as GSM8K publishes them, and `--model` is SmolLM2-135M-Instruct, which
smollm2_model.py makes.  The measurements, each with 1 GPU and with as many as `--gpus` says:

    training    rtx4090 with 4 prompts a step on each GPU (3B shape, random weights): prompts/s, generation and update
    averaging   the gradients of that training's adapters, and of all weights of smollm2, averaged over the GPUs
    jobs        smollm2's sft and zero, one after the other and side by side, twice with 4 GPUs, and so on
    evaluation  the 3B shape answers the 1,319 test questions, greedily and with eight samples: the whole command
    batch       smollm2's zero with 8 prompts a step on any number of GPUs: rewards and seconds
    sharded     10 steps of all weights of a 7B shape, divided between the GPUs: memory against its plan
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import recipes
import torch
from gsm8k_grpo.runtime import ranks
from recipes import SMALL_SHAPE, stage, with_own_code
from scale_settings import JOBS, PROMPTS_A_GPU, WARM_UP, Bench

AVERAGED = {"rtx4090, adapters": 59_867_136, "smollm2, all weights": 134_515_008}
REPEATS = 20


def training(bench: Bench) -> dict[str, Any]:
    """Prompts a second of one training, and the seconds a step of its parts."""
    rates = {}
    for gpus in (1, bench.gpus):
        settings = bench.training(gpus)
        folder = bench.prepared(f"training-{gpus}", settings)
        stage(folder, settings, "train", "--variant", "short")
        history = pd.read_csv(folder / "results/train/short/history.csv").iloc[0 if bench.small else WARM_UP :]
        seconds = {part: history[f"seconds_{part}"].mean() for part in ("generate", "score", "update")}
        rates[gpus] = {"prompts_per_s": gpus * PROMPTS_A_GPU / sum(seconds.values()), **seconds}
    of_one, of_all = rates[1], rates[bench.gpus]
    return {
        "by_gpus": rates,
        "efficiency": of_all["prompts_per_s"] / of_one["prompts_per_s"] / bench.gpus,
        "efficiency_generate": of_one["generate"] / of_all["generate"],
        "efficiency_update": of_one["update"] / of_all["update"],
    }


def averaging(bench: Bench) -> dict[str, Any]:
    """Seconds in which gradients of these sizes are averaged over the GPUs."""
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(bench.gpus)))} if torch.cuda.is_available() else {}
    os.environ |= visible
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--average-in-this-rank"], env=with_own_code() | own, stdout=subprocess.PIPE
        )
        for own in ranks._environments(bench.gpus)
    ]
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("averaging: a rank failed, see above")
    seconds: dict[str, Any] = json.loads(said[0])
    return seconds


def average_in_this_rank() -> None:
    """What each process of `averaging` does."""
    from accelerate import PartialState
    from gsm8k_grpo.stages.train import parallel

    device = PartialState(cpu=not torch.cuda.is_available()).device
    repeats = REPEATS if device.type == "cuda" else 1
    seconds = {}
    for name, count in AVERAGED.items():
        weights = [torch.nn.Parameter(torch.zeros(2**20, device=device)) for _ in range(count // 2**20)]
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        for repeat in range(repeats + 1):
            if repeat == 1:  # the first one sets the connection up
                _wait(device)
                began = time.perf_counter()
            parallel.average_gradients(weights)
        _wait(device)
        seconds[name] = (time.perf_counter() - began) / repeats
    ranks.leave_group()
    print(json.dumps(seconds))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def jobs(bench: Bench) -> dict[str, Any]:
    """Seconds of two trainings a pair of GPUs, one after the other and side by side."""
    settings = bench.jobs()
    pairs = max(bench.gpus // 2, 1)
    seconds = {}
    for way, at_once in {"one after the other": 1, "side by side": pairs * len(JOBS)}.items():
        folders = [bench.prepared(f"jobs-{way.replace(' ', '-')}-{pair}", settings) for pair in range(pairs)]
        with ThreadPoolExecutor(at_once) as pool:
            began = time.perf_counter()
            running = [
                pool.submit(stage, folder, settings, "train", "--variant", variant)
                for folder in folders
                for variant in JOBS
            ]
            for job in running:
                job.result()
        seconds[way] = time.perf_counter() - began
    return {"seconds": seconds, "jobs": len(running), "gain": seconds["one after the other"] / seconds["side by side"]}


def evaluation(bench: Bench) -> dict[str, Any]:
    """Seconds of the whole command that evaluates the base model."""
    seconds = {}
    for gpus in (1, bench.gpus):
        settings = bench.evaluation(gpus)
        folder = bench.prepared(f"evaluation-{gpus}", settings)
        began = time.perf_counter()
        stage(folder, settings, "evaluate", "--model", "base")
        seconds[gpus] = time.perf_counter() - began
    return {"seconds": seconds, "gain": seconds[1] / seconds[bench.gpus]}


def batch(bench: Bench) -> dict[str, Any]:
    """Rewards and seconds of the same steps on 1 GPU and on all."""
    found = {}
    for gpus in (1, bench.gpus):
        settings = bench.batch(gpus)
        folder = bench.prepared(f"batch-{gpus}", settings)
        stage(folder, settings, "train", "--variant", "zero")
        history = pd.read_csv(folder / "results/train/zero/history.csv")
        found[gpus] = {
            "reward": history["reward"].tolist(),
            "seconds": float(history.filter(regex="^seconds_").iloc[len(history) // 2 :].sum().sum()),
        }
    return {"by_gpus": found, "gain": found[1]["seconds"] / found[bench.gpus]["seconds"]}


def sharded(bench: Bench) -> dict[str, Any]:
    """The memory of a training whose weights are divided, and its plan."""
    return recipes.measure("smollm2", bench.sharded(), SMALL_SHAPE if bench.small else {})


MEASUREMENTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    measure.__name__: measure for measure in (training, averaging, jobs, evaluation, batch, sharded)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--model", type=Path, help="folder with SmolLM2-135M-Instruct")
    parser.add_argument("--gpus", type=int, default=2, help="GPUs of this host to use (default: 2)")
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), default=list(MEASUREMENTS))
    parser.add_argument("--work", type=Path, default=Path("scale"), help="working folder, emptied first")
    parser.add_argument("--out", type=Path, default=Path("scale.json"), help="JSON file for the results")
    parser.add_argument("--small", action="store_true", help="try the script with tiny models on the CPU")
    parser.add_argument("--average-in-this-rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.average_in_this_rank:
        average_in_this_rank()
        return
    if not options.small and not (options.data and options.model):
        parser.error("--data and --model are needed, or --small")
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    data, model = (path and path.resolve() for path in (options.data, options.model))
    bench = Bench(options.work.resolve(), options.gpus, data, model, options.small)
    results: dict[str, Any] = {"gpus": options.gpus}
    for name in options.only:
        try:
            results[name] = MEASUREMENTS[name](bench)
        except RuntimeError as error:
            results[name] = {"error": str(error)}
        print(name, json.dumps(results[name]), flush=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.exit(any("error" in results[name] for name in options.only))


if __name__ == "__main__":
    main()
