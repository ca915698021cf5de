"""Decoding: order, limits and ends, with a real model made on the spot."""

import pytest
import torch
from conftest import ROOT
from gsm8k_grpo.base import new_model, train_tokenizer
from gsm8k_grpo.corpus import Document
from gsm8k_grpo.engines import TransformersEngine, read
from gsm8k_grpo.models import Source
from gsm8k_grpo.params import Architecture, load
from gsm8k_grpo.prompts import chat

PROMPTS = [chat(text, "english", False) for text in ("One?", "What is two and two and two?", "Three, please?")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> TransformersEngine:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    shape = Architecture(vocabulary=400, hidden=32, intermediate=64, layers=1, heads=2, context=256)
    tokenizer = train_tokenizer([Document(prompt, "The answer is 4.") for prompt in PROMPTS], shape.vocabulary)
    for part in (new_model(shape, tokenizer), tokenizer):
        part.save_pretrained(folder)
    return TransformersEngine(Source(str(folder)), load(ROOT / "params.yaml", {"evaluate.batch_size": 2}))


def test_answers_come_in_the_order_of_the_prompts_whatever_the_batches(engine):
    together = engine.complete(PROMPTS, 12, "test")
    alone = [engine.complete([prompt], 12, "test")[0] for prompt in PROMPTS]
    assert together == alone


def test_an_answer_that_reaches_the_limit_is_truncated(engine):
    answers = engine.complete(PROMPTS, 5, "test")
    assert [answer.tokens for answer in answers if answer.truncated] == [5] * sum(a.truncated for a in answers)
    assert any(answer.truncated for answer in answers)


def test_an_answer_ends_at_the_end_token_and_counts_it(engine):
    end = engine.tokenizer.eos_token_id
    first, second = engine.tokenizer("The answer", add_special_tokens=False)["input_ids"][:2]
    answer = read([first, second, end, first, first], engine.tokenizer)
    assert (answer.text, answer.tokens, answer.truncated) == (engine.tokenizer.decode([first, second]), 3, False)
