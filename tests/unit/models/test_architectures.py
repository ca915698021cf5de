"""Evaluation on many architectures: a question has the same answer in a batch, left-padded, as alone, or is refused."""

import pytest
from gsm8k_grpo.config.params import load
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.transformers_engine import TransformersEngine
from project import ROOT
from tiny_models import ACCEPTED, REFUSED, build, tokenizer

PROMPTS = ["One?", "Three, please?", "What is two and two and two and two and a half?", "How many apples has Tom?"]
TOKENS = 16


def engine_of(name: str, folder) -> TransformersEngine:
    kind, keys, *_ = (ACCEPTED | REFUSED)[name]
    build(kind, **keys).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    params = load(ROOT / "params.yaml", {"model": str(folder), "precision": "float32"})
    return TransformersEngine(loading.Source(str(folder)), params)


@pytest.mark.parametrize("name", sorted({*ACCEPTED, *REFUSED} - {"recurrent_gemma"}))
def test_a_question_has_the_same_answer_in_a_batch_as_alone(name, tmp_path):
    engine = engine_of(name, tmp_path)
    together = engine.complete(list(PROMPTS), TOKENS, "together")
    assert together == [engine.complete([prompt], TOKENS, "alone")[0] for prompt in PROMPTS]
    assert len({completion.text for completion in together}) > 1


def test_a_model_that_does_not_ignore_padding_is_refused_in_batches_and_answers_one_by_one(tmp_path):
    engine = engine_of("recurrent_gemma", tmp_path)
    with pytest.raises(
        PipelineError, match=r"^RecurrentGemmaForCausalLM does not ignore .*; set evaluate\.batch_size: 1"
    ):
        engine.complete(list(PROMPTS), TOKENS, "together")
    engine.batch_size = 1
    assert len(engine.complete(list(PROMPTS), TOKENS, "alone")) == len(PROMPTS)
