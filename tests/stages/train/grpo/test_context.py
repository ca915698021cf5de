"""Prompts that do not fit the context with their completions are refused before any weight is read."""

import pytest
from gsm8k_grpo.config.params import load
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models.engine import tokenize_prompts
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.stages.base.corpus import Document
from gsm8k_grpo.stages.base.tokenizer import train_tokenizer
from gsm8k_grpo.stages.train.grpo import building
from project import ROOT
from transformers import AutoConfig

VLLM = {"max_model_length": 100, "max_num_seqs": 8, "kv_cache_gib": 1, "sleep": False}
ROWS = [
    {"id": f"x-{words}", "prompt": [{"role": "user", "content": "pears " * words}], "question": "q", "answer": "7",
     "solution": "7"}
    for words in (1, 40, 2)
]  # fmt: skip


@pytest.mark.parametrize(
    ("context", "overrides", "limit"),
    [
        (80, {}, "the model's context of 80; "),
        (512, {"engine": "vllm", "vllm": VLLM}, "vllm.max_model_length of 100; .*, or raise vllm.max_model_length"),
    ],
)
def test_the_longest_prompt_is_named_with_the_limit_that_it_exceeds(tmp_path, context, overrides, limit):
    tokenizer = train_tokenizer([Document([], f"{number} pears") for number in range(50)], 300)
    config = AutoConfig.for_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=context)
    config.save_pretrained(tmp_path / "model")  # and no weights
    tokenizer.save_pretrained(tmp_path / "model")
    longest = max(map(len, tokenize_prompts([row["prompt"] for row in ROWS], tokenizer, {})))
    params = load(ROOT / "params.yaml", {"model": "model", "train.max_completion_length": 90, **overrides})
    with pytest.raises(PipelineError, match=rf"^train: the longest prompt \(x-40\) has {longest} tokens; .*{limit}"):
        building.build_trainer(ROWS, "short", Source(str(tmp_path / "model")), params, tmp_path)
