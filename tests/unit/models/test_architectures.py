"""Evaluation on many architectures: a question has the same answer in a batch, left-padded, as alone."""

import pytest
from gsm8k_grpo.config.params import load
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.transformers_engine import TransformersEngine
from project import ROOT
from tiny_models import ACCEPTED, REFUSED, build, tokenizer

PROMPTS = ["One?", "Three, please?", "What is two and two and two and two and a half?", "How many apples has Tom?"]
TOKENS = 16


@pytest.mark.parametrize("name", ACCEPTED | REFUSED)
def test_a_question_has_the_same_answer_in_a_batch_as_alone(name, tmp_path):
    kind, keys, *_ = (ACCEPTED | REFUSED)[name]
    build(kind, **keys).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    params = load(ROOT / "params.yaml", {"model": str(tmp_path), "precision": "float32"})
    engine = TransformersEngine(loading.Source(str(tmp_path)), params)
    together = engine.complete(list(PROMPTS), TOKENS, "together")
    assert together == [engine.complete([prompt], TOKENS, "alone")[0] for prompt in PROMPTS]
    assert len({completion.text for completion in together}) > 1
