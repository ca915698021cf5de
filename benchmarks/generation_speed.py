"""How long an engine takes to generate for training: vLLM by how it returns log-probabilities, or the engine `graphs`.

    python benchmarks/generation_speed.py --model models/smollm2 --path FOLDER --max-num-seqs 512
    python benchmarks/generation_speed.py --model models/smollm2 --path FOLDER --engine graphs

The prompts are training questions of the recipe smollm2, each with 16 completions, or as many as --group says.  With
vLLM the lengths of the completions are drawn once, with a mean of 90 tokens and at most 256, and end tokens are
ignored, so that rows with as many sequences do the same work.  With graphs the completions end where the model ends
them, or after 256 tokens, so compare tokens per second.  The engines are those of training, with the weights of the
model.  The first generation, which warms the engine up, is not shown.
"""

import argparse
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gsm8k_grpo.config import params
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.gsm8k.prompts import prompt
from gsm8k_grpo.models.decoding import check
from gsm8k_grpo.models.decoding.decoder import Decoder
from gsm8k_grpo.models.decoding.sampling import Sampler
from gsm8k_grpo.models.engine import tokenize_prompts
from gsm8k_grpo.models.graph_engine import load_network, settings_of
from gsm8k_grpo.models.loading import Source, load_tokenizer
from gsm8k_grpo.models.vllm_engine import start_vllm

MEAN, LIMIT = 90, 256
LOG_PROBS = {"none": {}, "objects": {"logprobs": 0}, "flat": {"logprobs": 0, "flat_logprobs": True}}


def token_ids(settings: Params, path: Path, prompts: int) -> list[list[int]]:
    """The tokens of the first training questions."""
    questions = [row["question"] for row in read_jsonl(path / "train.jsonl")[:prompts]]
    chats = [list(prompt(question, settings.extract)) for question in questions]
    return tokenize_prompts(chats, load_tokenizer(settings.model), settings.chat_template_kwargs)


def lengths(count: int) -> list[int]:
    drawn = np.random.default_rng(0).exponential(MEAN, count)
    return np.clip(drawn, 1, LIMIT).astype(int).tolist()


def vllm_rows(settings: Params, options: argparse.Namespace) -> Iterator[list[Any]]:
    from vllm import SamplingParams

    llm = start_vllm(settings.model, settings)
    for prompts in options.prompts:
        ids = token_ids(settings, options.path, prompts)
        inputs = [{"prompt_token_ids": row} for row in ids for _ in range(options.group)]
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
                how = f"log-probabilities: {kind}, garbage collection {name}"
                yield ["vllm", how, len(inputs), sum(limits), f"{best:.2f}", f"{sum(limits) / best:,.0f}"]


def graphs_rows(settings: Params, options: argparse.Namespace) -> Iterator[list[Any]]:
    network, tokenizer = load_network(Source(settings.model), settings)
    decoder = Decoder(network, tokenizer, settings_of(settings))
    for prompts in options.prompts:
        ids = token_ids(settings, options.path, prompts)
        check.require(decoder, ids)
        for repeat in range(options.repeats + 1):
            began = time.perf_counter()
            completions = list(decoder.generate(ids, options.group, LIMIT, Sampler(temperature=1.0)))
            seconds = time.perf_counter() - began
            tokens = sum(len(generated.ids) for *_, generated in completions)
            if repeat:
                rate = f"{tokens / seconds:,.0f}"
                yield ["graphs", f"repeat {repeat}", len(completions), tokens, f"{seconds:.2f}", rate]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder, or a name on the hub")
    parser.add_argument("--path", type=Path, required=True, help="a folder with GSM8K's train.jsonl")
    parser.add_argument("--engine", choices=("vllm", "graphs"), default="vllm")
    parser.add_argument("--prompts", type=int, nargs="*", default=[32, 128], help="prompts generated together")
    parser.add_argument("--group", type=int, default=16, help="completions of each prompt")
    parser.add_argument("--max-num-seqs", type=int, default=512, help="sequences in one step of the engine")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an override; repeatable")
    options = parser.parse_args()
    sections = {
        "vllm": {"max_model_length": 640, "sleep": False},
        "graphs": {"compile": True},
    }
    section = sections[options.engine] | {"max_num_seqs": options.max_num_seqs, "kv_cache_gib": 8}
    changed = {"recipe": "smollm2", "model": options.model, "engine": options.engine, options.engine: section}
    settings = params.load(Path("params.yaml"), changed | dict(map(parse_override, options.set)))
    print("| engine | how | sequences | tokens | seconds | tokens/s |")
    print("|---|---|---|---|---|---|")
    rows = {"vllm": vllm_rows, "graphs": graphs_rows}[options.engine]
    for row in rows(settings, options):
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
