"""The contamination probe: how a question is cut and scored, and a model that knows some questions by heart."""

import itertools

import pytest
import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.sections import Architecture
from gsm8k_grpo.gsm8k.problems import problems
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.models.transformers_engine import TransformersEngine
from gsm8k_grpo.stages.base.corpus import Document
from gsm8k_grpo.stages.base.pretraining import new_model
from gsm8k_grpo.stages.base.tokenizer import train_tokenizer
from gsm8k_grpo.stages.evaluate.continuation import continue_questions, halves, rouge_l, row
from gsm8k_grpo.stages.evaluate.metrics import continuation_metrics
from project import ROOT

EACH = 6


@pytest.mark.parametrize(
    ("question", "given", "expected"),
    [
        ("Ann has 3 pens and", "Ann has 3", " pens and"),
        ("Ann has\n3  pens ", "Ann has", "\n3  pens"),
        ("One two", "One", " two"),
        ("One?", "One?", ""),
        ("他有3支笔", "他有3", "支笔"),
    ],
)
def test_a_question_is_cut_behind_the_word_in_the_middle(question, given, expected):
    assert halves(question) == (given, expected)


def test_words_behind_the_question_do_not_count():
    scored = row("test", "test-0", "Ann has", " 3 pens.", " 3 pens. She buys 2.")
    assert (scored["completion"], scored["exact"], scored["rouge_l"]) == (" 3 pens.", True, 1.0)


@pytest.mark.parametrize(
    ("text", "close"),
    [
        (" 3  pens\nand 4 cups", 1.0),
        (" 3 pens and 5 cups", 0.8),  # four of five words in common
        (" 3 pens", 4 / 7),  # two of two and of five
        (" cups 4 and pens 3", 0.2),
        (" Three apples", 0.0),
        ("", 0.0),
    ],
)
def test_a_continuation_is_exact_or_as_close_as_its_common_words_in_order(text, close):
    scored = row("test", "test-0", "Ann has", " 3 pens and 4 cups", text)
    assert scored["exact"] == (close == 1)
    assert scored["rouge_l"] == pytest.approx(close)


def test_rouge_l_is_that_of_its_paper():
    """Lin 2004, section 3.1: with beta = 1 "police kill the gunman" has 3/4 and "the gunman kill police" 2/4."""
    reference = ["police", "killed", "the", "gunman"]
    assert rouge_l(reference, ["police", "kill", "the", "gunman"]) == 0.75
    assert rouge_l(reference, ["the", "gunman", "kill", "police"]) == 0.5


def test_the_metrics_are_the_share_of_exact_ones_and_the_mean_closeness():
    rows = [row("test", "test-0", "a", " b c", text) for text in (" b c", " b d", " e f", " b c d")]
    exact, close = continuation_metrics(rows, 100, 0)
    assert (exact["metric"], exact["value"], exact["n"]) == ("continuation_exact", 0.5, 4)
    assert (close["metric"], close["value"]) == ("continuation_rouge_l", 0.625)
    assert exact["ci95"][0] < 0.5 < exact["ci95"][1]


@pytest.fixture(scope="module")
def questions() -> list[dict]:
    rows = itertools.islice(problems("rich", seed=5), 2 * EACH)
    return [{"id": f"test-{index}", "question": problem["question"]} for index, problem in enumerate(rows)]


@pytest.fixture(scope="module")
def engine(questions, tmp_path_factory) -> TransformersEngine:
    """A model that was trained on the first half of the questions until it knows them by heart, and on nothing else."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("recites")
    shape = Architecture(vocabulary=400, hidden=64, intermediate=128, layers=2, heads=2, context=256)
    texts = [question["question"] for question in questions]
    tokenizer = train_tokenizer([Document([], text) for text in texts], shape.vocabulary)
    model = new_model(shape, tokenizer)
    batch = tokenizer(texts[:EACH], return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return TransformersEngine(Source(str(folder)), load(ROOT / "params.yaml", {"evaluate.batch_size": EACH}))


def test_a_model_continues_the_questions_that_it_was_trained_on_and_no_others(engine, questions):
    seen, unseen = (continue_questions("test", half, engine, "test") for half in (questions[:EACH], questions[EACH:]))
    assert [scored["exact"] for scored in seen] == [True] * EACH
    assert [scored["exact"] for scored in unseen] == [False] * EACH
    assert max(scored["rouge_l"] for scored in unseen) < 0.9
    for scored, question in zip(seen, questions[:EACH], strict=True):
        assert scored["given"] + scored["expected"] == question["question"]
        assert scored["completion"] == scored["expected"]


def test_a_question_of_one_word_has_no_second_half_and_is_left_out(engine):
    assert continue_questions("test", [{"id": "test-0", "question": "1+1?"}], engine, "test") == []
