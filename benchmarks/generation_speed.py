"""How long vLLM takes to generate for training, by the number of sequences and by how it returns log-probabilities.

    python benchmarks/generation_speed.py --model models/smollm2 --max-num-seqs 512 --path FOLDER

The prompts are training questions of the recipe smollm2, each with 16 completions.  The lengths of the completions are
drawn once, with a mean of 90 tokens and at most 256, and end tokens are ignored, so that rows with as many sequences do
the same work.  The engine is that of training (`models/vllm_engine.py`), with the weights of the model.  The first
generation, which warms the engine up, is not shown.
"""

import argparse
import gc
import time
from pathlib import Path

import numpy as np
from gsm8k_grpo.config import params
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.gsm8k.prompts import prompt
from gsm8k_grpo.models.engine import tokenize_prompts
from gsm8k_grpo.models.loading import load_tokenizer
from gsm8k_grpo.models.vllm_engine import start_vllm

MEAN, LIMIT, GROUP = 90, 256, 16
LOG_PROBS = {"none": {}, "objects": {"logprobs": 0}, "flat": {"logprobs": 0, "flat_logprobs": True}}


def token_ids(settings: Params, path: Path, prompts: int) -> list[list[int]]:
    """The tokens of the first training questions, each `GROUP` times."""
    questions = [row["question"] for row in read_jsonl(path / "train.jsonl")[:prompts]]
    chats = [list(prompt(question, settings.extract)) for question in questions]
    ids = tokenize_prompts(chats, load_tokenizer(settings.model), settings.chat_template_kwargs)
    return [row for row in ids for _ in range(GROUP)]


def lengths(count: int) -> list[int]:
    drawn = np.random.default_rng(0).exponential(MEAN, count)
    return np.clip(drawn, 1, LIMIT).astype(int).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder, or a name on the hub")
    parser.add_argument("--path", type=Path, required=True, help="a folder with GSM8K's train.jsonl")
    parser.add_argument("--prompts", type=int, nargs="*", default=[32, 128], help="prompts generated together")
    parser.add_argument("--max-num-seqs", type=int, default=512, help="sequences in one step of vLLM")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an override; repeatable")
    options = parser.parse_args()
    changed = {"recipe": "smollm2", "model": options.model, "vllm": {"max_num_seqs": options.max_num_seqs}}
    changed["vllm"] |= {"sleep": False, "kv_cache_gib": 8}
    settings = params.load(Path("params.yaml"), changed | dict(map(parse_override, options.set)))

    began = time.perf_counter()
    from vllm import SamplingParams

    llm = start_vllm(settings.model, settings)
    print(f"start of the engine: {time.perf_counter() - began:.1f} s\n")
    print("| sequences | tokens | log-probabilities | garbage collection | seconds | tokens/s |")
    print("|---|---|---|---|---|---|")
    for prompts in options.prompts:
        inputs = [{"prompt_token_ids": ids} for ids in token_ids(settings, options.path, prompts)]
        limits = lengths(len(inputs))
        for kind, extra in LOG_PROBS.items():
            sampling = [
                SamplingParams(temperature=1.0, max_tokens=limit, ignore_eos=True, detokenize=False, **extra)
                for limit in limits
            ]
            for name, switch in {"on": gc.enable, "off": gc.disable}.items():
                switch()
                seconds = []
                for _ in range(options.repeats + (kind == "none" and name == "on")):
                    began = time.perf_counter()
                    llm.generate(inputs, sampling, use_tqdm=False)
                    seconds.append(time.perf_counter() - began)
                best = min(seconds[-options.repeats :])
                row = [len(inputs), sum(limits), kind, name, f"{best:.2f}", f"{sum(limits) / best:,.0f}"]
                print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
