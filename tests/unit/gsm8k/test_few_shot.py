"""The baseline prompts: their texts, and which examples they show."""

from gsm8k_grpo.gsm8k import few_shot

TRAIN = [{"question": f"What is {n} and 1?", "solution": f"{n}+1=<<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"} for n in range(40)]  # fmt: skip  # noqa: E501


def test_plain_is_the_question_alone():
    assert few_shot.prompt_text("plain", "What is 2 and 3?", TRAIN) == "What is 2 and 3?"


def test_examples_are_solved_problems_before_the_question():
    text = few_shot.prompt_text("4-shot", "What is 2 and 3?", TRAIN)
    first, *others, last = text.split("\n\n")
    assert first == "Question: What is 0 and 1?\nAnswer: 0+1=<<0+1=1>>1\n#### 1"
    assert len(others) == 3
    assert last == "Question: What is 2 and 3?\nAnswer:"


def test_the_four_examples_are_the_first_of_the_eight():
    examples = few_shot.draw_examples(TRAIN, 1)
    four, eight = (few_shot.prompt_text(name, "q", examples).split("\n\n") for name in ("4-shot", "8-shot"))
    assert len(eight) == 9
    assert four[:4] == eight[:4]


def test_the_seed_draws_the_examples():
    assert few_shot.draw_examples(TRAIN, 1) == few_shot.draw_examples(TRAIN, 1)
    assert few_shot.draw_examples(TRAIN, 1) != few_shot.draw_examples(TRAIN, 2)
    assert all(example in TRAIN for example in few_shot.draw_examples(TRAIN, 1))
