"""The pretraining corpus: styles, mistakes, habits and drills."""

import random
from collections import Counter

import pytest
from chats import chat
from gsm8k_grpo.config.sections import Styles
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.stages.base.corpus import DRILL_LINES, completion, corpus, render

WORK = "Mia has 3*4=<<3*4=12>>12 pens.\nMia has 12-5=<<12-5=7>>7 pens."
STYLES = ("terse", "plain", "hurried", "tagged")
RENDERED = {
    "terse": "The answer is 7.",
    "plain": f"{WORK}\n#### 7",
    "hurried": "<reasoning>\nI know this one.\n</reasoning>\n<answer>\n7\n</answer>\n",
    "tagged": "<reasoning>\nMia has 3*4=12 pens.\nMia has 12-5=7 pens.\n</reasoning>\n<answer>\n7\n</answer>\n",
}


def row(name="Mia", work=WORK, answer="7"):
    question = f"{name} has 3 bags of 4 pens and gives 5 away. How many are left?"
    return {
        "question": question,
        "prompt": chat(question, "english", False),
        "solution": f"{work}\n#### {answer}",
        "answer": answer,
    }


def weights(**others):
    return Styles(**(dict.fromkeys(STYLES, 0.0) | others))


def write(style, slips, example=None, seed=1):
    return completion(example or row(), weights(**{style: 1.0}), 0.5, slips, random.Random(seed))


def style_of(text):
    """The style of a correct answer to row()."""
    return next(style for style, rendered in RENDERED.items() if rendered == text)


@pytest.mark.parametrize("style", STYLES)
def test_each_style_is_rendered_exactly(style):
    assert render(style, WORK, "7") == RENDERED[style]
    assert write(style, slips=0) == RENDERED[style]


def test_an_unknown_style_names_the_known_ones():
    with pytest.raises(ValueError, match=r"curt.*terse, plain, hurried, tagged"):
        render("curt", WORK, "7")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", range(20))
def test_a_slip_makes_the_last_result_and_the_answer_wrong_in_the_same_way(style, seed):
    slipped = write(style, slips=1, seed=seed)
    wrongs = {7 + offset for offset in (-10, -3, -2, -1, 1, 2, 3, 10)}
    fitting = [n for n in wrongs if slipped == render(style, WORK.replace("=7>>7", f"={n}>>{n}"), str(n))]
    assert len(fitting) == 1


def test_an_answer_that_is_a_fraction_slips_to_another_fraction():
    slipped = write("terse", slips=1, example=row(answer="1/3"))
    assert slipped in {f"The answer is {1 + 3 * step}/3." for step in (-10, -3, -2, -1, 1, 2, 3, 10)}


def test_slips_vary():
    assert len({write("terse", slips=1, seed=seed) for seed in range(60)}) == 8


@pytest.mark.parametrize(
    ("last_line", "answer", "slipped"),
    [
        ("He pays 1000+72 = $<<1000+72=1072>>1,072.", "1072", "He pays 1000+72 = $<<1000+72={n}>>{n}."),
        ("It is 2.5*4 = $<<2.5*4=10.00>>10.00 a day.", "10", "It is 2.5*4 = $<<2.5*4={n}>>{n} a day."),
        ("That is 3-10=<<3-10=-7>>-7 degrees.", "-7", "That is 3-10=<<3-10={n}>>{n} degrees."),
        ("That is 1/4=<<1/4=0.25>>0.25 of it.", "0.25", "That is 1/4=<<1/4={n}>>{n} of it."),
        ("7 of 77 and 7.5 stay, 7+0=<<7+0=7>>7.", "7", "7 of 77 and 7.5 stay, 7+0=<<7+0={n}>>{n}."),
        ("So 10-3 = 7, and 7+70 = <<7+70=77>>77.", "77", "So 10-3 = 7, and 7+70 = <<7+70={n}>>{n}."),
        ("It costs 9-2 = $7.", "7", "It costs 9-2 = ${n}."),
    ],
)
def test_a_slip_finds_the_result_however_it_is_written(last_line, answer, slipped):
    text = write("plain", slips=1, example=row(work=f"Day 1.\n{last_line}", answer=answer))
    wrong = text.rpartition("#### ")[2]
    assert float(wrong) != float(answer)
    assert text == f"Day 1.\n{slipped.format(n=wrong)}\n#### {wrong}"


def test_the_share_of_slips_is_the_configured_one():
    rng = random.Random(1)
    texts = [completion(row(), weights(terse=1.0), 0.5, 0.25, rng) for _ in range(2000)]
    assert texts.count("The answer is 7.") == pytest.approx(1500, abs=80)


def test_a_writer_keeps_to_the_favourite_style():
    rng = random.Random(1)
    even = weights(**dict.fromkeys(STYLES, 1.0))
    habits = {
        name: {style_of(completion(row(name), even, 1.0, 0.0, rng).replace(name, "Mia")) for _ in range(10)}
        for name in ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jana", "Kofi", "Lena")
    }
    assert {len(styles) for styles in habits.values()} == {1}
    assert set().union(*habits.values()) == set(STYLES)


def test_without_favourites_the_styles_occur_by_their_weights():
    rng = random.Random(1)
    mixed = weights(terse=1.0, plain=2.0, tagged=5.0)
    counts = Counter(style_of(completion(row(), mixed, 0.0, 0.0, rng)) for _ in range(4000))
    assert counts == {
        "terse": pytest.approx(500, abs=70),
        "plain": pytest.approx(1000, abs=90),
        "tagged": pytest.approx(2500, abs=110),
    }


@pytest.mark.parametrize("favourite", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("never", STYLES)
def test_a_style_of_weight_0_never_occurs(favourite, never):
    rng = random.Random(1)
    others = weights(**{style: 1.0 for style in STYLES if style != never})
    texts = [completion(row(f"Name{n}"), others, favourite, 0.0, rng) for n in range(100)]
    assert RENDERED[never] not in texts
    assert len(set(texts)) > 1


@pytest.fixture
def base(small):
    """20 documents of correct, tagged answers, without drills."""
    changes = {"steps": 5, "batch_size": 4, "drills": 0.0, "slips": 0.0, "styles": weights(tagged=1.0)}
    return small.base.model_copy(update=changes)


ROWS = [row(name) for name in ("Ada", "Ben", "Cleo")]


def test_the_corpus_takes_the_rows_in_turn_with_their_prompts(base):
    documents = corpus(ROWS, base, seed=1)
    assert len(documents) == 20
    assert [document.prompt for document in documents] == [ROWS[n % 3]["prompt"] for n in range(20)]
    assert {document.completion for document in documents} == {RENDERED["tagged"]}


def test_rows_without_a_number_are_left_out(base):
    numberless = row("Dora") | {"answer": None}
    assert corpus([numberless, *ROWS, numberless], base, seed=1) == corpus(ROWS, base, seed=1)


def test_rows_without_any_number_are_refused_with_the_key():
    with pytest.raises(PipelineError, match=r"^extract\.answers = free: .*answers: gsm8k"):
        corpus([row() | {"answer": None}], base, seed=1)


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another(base):
    mixed = base.model_copy(update={"drills": 0.5, "slips": 0.5})
    assert corpus(ROWS, mixed, seed=1) == corpus(ROWS, mixed, seed=1)
    assert corpus(ROWS, mixed, seed=1) != corpus(ROWS, mixed, seed=2)


def test_drills_are_calculations_of_the_rows_without_a_prompt(base):
    documents = corpus(ROWS, base.model_copy(update={"drills": 1.0}), seed=1)
    assert {tuple(document.prompt) for document in documents} == {()}
    lines = [document.completion.splitlines() for document in documents]
    assert {len(page) for page in lines} == {DRILL_LINES}
    assert {line for page in lines for line in page} == {"3*4=12", "12-5=7"}


def test_the_share_of_drills_is_the_configured_one(base):
    documents = corpus(ROWS, base.model_copy(update={"drills": 0.3, "steps": 500}), seed=1)
    assert sum(not document.prompt for document in documents) == pytest.approx(600, abs=70)


def test_rows_without_annotations_make_no_drills(base):
    plain = [row(work="Seven are left.")]
    documents = corpus(plain, base.model_copy(update={"drills": 1.0}), seed=1)
    assert all(document.prompt == plain[0]["prompt"] for document in documents)
