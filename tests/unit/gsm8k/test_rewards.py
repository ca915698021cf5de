"""The reward functions: the published ones with their quirks and logged figures, the robust ones, the control."""

import statistics
import time
from types import SimpleNamespace

import pytest
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.gsm8k.answers import gold_answer
from gsm8k_grpo.gsm8k.rewards import NAMES, TABLE
from gsm8k_grpo.gsm8k.solutions import ANNOTATION
from gsm8k_grpo.gsm8k.tags import TAGS, tagged, well_formed
from hypothesis import given
from hypothesis import strategies as st

SEVEN = ["xmlcount", "soft_format", "strict_format", "int", "correctness", "format", "accuracy"]
ONE_LINE = "<reasoning>\nThree and four make seven.\n</reasoning>\n<answer>\n7\n</answer>\n"
FULL = {name: 2.0 if name in ("correctness", "accuracy") else 0.5 for name in SEVEN}
TWO_LINES = "<reasoning>\nThree.\nAnd four.\n</reasoning>\n<answer>\n7\n</answer>\n"
FLAT = "<reasoning>Three and four.</reasoning><answer>7</answer>"


def completions(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def score(reward_set, name, text, gold="7"):
    return TABLE[reward_set][name](completions=completions(text), answer=[gold])[0]


def test_published_and_robust_have_the_same_seven_names():
    assert NAMES["published"] == SEVEN
    assert sorted(NAMES["robust"]) == sorted(SEVEN)
    assert NAMES["control"] == ["random"]
    assert {name: list(functions) for name, functions in TABLE.items()} == NAMES


def test_the_trainer_finds_each_function_under_its_published_name():
    for reward_set, functions in TABLE.items():
        assert [f.__name__ for f in functions.values()] == [f"{name}_reward_func" for name in NAMES[reward_set]]


@pytest.mark.parametrize("reward_set", ["published", "robust"])
@pytest.mark.parametrize("name", SEVEN)
def test_a_function_takes_what_the_trainer_passes_and_returns_a_float_per_completion(reward_set, name):
    values = TABLE[reward_set][name](
        prompts=[[{"role": "user", "content": "Three and four?"}]] * 3,
        completions=completions(ONE_LINE, "", FLAT),
        completion_ids=[[1], [2], [3]],
        answer=["7", "7", "7"],
        trainer_state=SimpleNamespace(global_step=4),
    )
    assert [type(value) for value in values] == [float] * 3


# The published run on 24 GB: the scores of a logged sample, and the figures of the last logged step

LEGOS = tagged("She starts with 380 bricks, 57 get lost and 24 go to her sister, so 380 - 57 - 24 = 299.", "299")
LOGGED = {"xmlcount": 0.5, "soft_format": 0.0, "strict_format": 0.5, "int": 0.5, "correctness": 2.0}


@pytest.mark.parametrize(("name", "value"), LOGGED.items())
def test_the_published_sample_scores_as_in_the_published_log(name, value):
    assert score("published", name, LEGOS, "299") == value


def test_five_correct_of_six_have_the_mean_and_deviation_of_the_published_log():
    batch = completions(*[LEGOS] * 5, LEGOS.replace("\n299\n", "\n323\n"))
    columns = {name: TABLE["published"][name](completions=batch, answer=["299"] * 6) for name in LOGGED}
    totals = [sum(values) for values in zip(*columns.values(), strict=True)]
    assert statistics.mean(columns["correctness"]) == pytest.approx(1.6666667)
    assert statistics.mean(totals) == pytest.approx(3.1666667)
    assert statistics.stdev(totals) == pytest.approx(0.8164965)


# The published set, quirk by quirk: name, text, value, for gold 7


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        # one line of reasoning, as requested
        ("strict_format", ONE_LINE, 0.5), ("format", ONE_LINE, 0.5), ("xmlcount", ONE_LINE, 0.5),
        # `.` matches no line break: two lines of reasoning or of answer earn nothing
        ("strict_format", TWO_LINES, 0.0), ("format", TWO_LINES, 0.0), ("soft_format", TWO_LINES, 0.0),
        ("strict_format", tagged("a", "7\npens"), 0.0), ("xmlcount", TWO_LINES, 0.5),
        # soft_format requires what the prompt does not request, and ignores what follows
        ("soft_format", ONE_LINE, 0.0), ("soft_format", FLAT, 0.5), ("soft_format", FLAT + " and more", 0.5),
        ("soft_format", "<reasoning>a</reasoning>\n\n<answer>7</answer>", 0.5), ("soft_format", " " + FLAT, 0.0),
        # one line break at the end, or two, and nothing else
        ("strict_format", ONE_LINE.rstrip(), 0.0), ("strict_format", ONE_LINE + "\n", 0.5),
        ("strict_format", ONE_LINE + "\n\n", 0.0), ("strict_format", ONE_LINE + " ", 0.0),
        ("strict_format", ONE_LINE + "<|im_end|>", 0.0), ("strict_format", "\n" + ONE_LINE, 0.0),
        # empty blocks and lines are a format too
        ("strict_format", tagged("", ""), 0.5), ("soft_format", "<reasoning></reasoning><answer></answer>", 0.5),
        # xmlcount: 0.125 per tag, less twice 0.001 for every character after the answer
        ("xmlcount", "", 0.0), ("xmlcount", FLAT, 0.0), ("xmlcount", "<reasoning>\n", 0.125),
        ("xmlcount", "<reasoning>\na\n</reasoning>\n", 0.25), ("xmlcount", ONE_LINE + "a" * 10, 0.48),
        ("xmlcount", "<reasoning>\n" * 2, 0.0), ("xmlcount", "7\n</answer>\n", 0.125),
        # without the last line break 0.001 more, but less 0.001 for each of the 72 characters
        ("xmlcount", ONE_LINE.rstrip(), 0.429), ("xmlcount", "7\n</answer>", 0.126),
        # no lower bound
        ("xmlcount", "\n<answer>\n" + "a" * 990, 0.125 - 1.0),
        # int takes any digits, and nothing but digits
        ("int", "<answer>7</answer>", 0.5), ("int", "<answer>007</answer>", 0.5), ("int", "<answer>²</answer>", 0.5),
        ("int", "<answer>-7</answer>", 0.0), ("int", "<answer>7.0</answer>", 0.0), ("int", "<answer></answer>", 0.0),
        ("int", "<answer>1,000</answer>", 0.0), ("int", "<answer>$7</answer>", 0.0),
        # correctness compares texts
        ("correctness", "<answer>\n7\n</answer>", 2.0), ("correctness", "<answer>7.0</answer>", 0.0),
        ("correctness", "<answer>$7</answer>", 0.0), ("correctness", "<answer>07</answer>", 0.0),
        ("accuracy", "<answer>7</answer>", 2.0), ("accuracy", "<answer>8</answer>", 0.0),
        # a text without tags is one long answer; of several blocks the last counts, closed or not
        ("correctness", " 7\n", 2.0), ("int", "7", 0.5), ("correctness", "It is 7", 0.0),
        ("correctness", "<answer>8</answer><answer>7</answer>", 2.0), ("int", "<answer>a</answer><answer>7", 0.5),
    ],
)  # fmt: skip
def test_the_published_quirks(name, text, value):
    assert score("published", name, text) == pytest.approx(value)


# The robust set: what each of the formats and answers below earns

GOOD = {
    "as asked": ONE_LINE,
    "many lines of reasoning": TWO_LINES,
    "blank lines between": tagged("Three.\n\nAnd four.\n", "7"),
    "no line break at the end": ONE_LINE.rstrip(),
    "spaces and line breaks at the end": ONE_LINE + " \n\n\t",
    "<|im_end|>": ONE_LINE + "<|im_end|>\n",
    "<|endoftext|>, repeated": ONE_LINE.rstrip() + "<|endoftext|><|endoftext|>",
    "</s>": ONE_LINE + "</s>",
    "comparison signs": tagged("3 < 4 and 4 > 3, so 3 + 4 = 7.", "7"),
    "a blank line between the blocks": ONE_LINE.replace("</reasoning>\n", "</reasoning>\n\n"),
    "spaces around the tags": " " + ONE_LINE.replace(">", "> ").replace("\n<", "\n <"),
    "line breaks of Windows": ONE_LINE.replace("\n", "\r\n"),
    "a thought": "<think>\nThree and four?\n</think>\n\n".rstrip() + ONE_LINE,
    "a draft in a thought": "<think>" + tagged("Perhaps", "8") + "</think>" + ONE_LINE,
    "a thought that the prompt opened": "Three and four?\n</think>" + ONE_LINE,
}


@pytest.mark.parametrize("text", GOOD.values(), ids=list(GOOD))
@pytest.mark.parametrize("name", SEVEN)
def test_a_correct_answer_in_the_requested_format_earns_full_robust_marks(name, text):
    assert score("robust", name, text) == FULL[name]


R, NR, A, NA = TAGS
# text: xmlcount, soft_format, strict_format, int, correctness for gold 7
OTHER = {
    FLAT: (0.5, 0.5, 0.0, 0.5, 2.0),
    f"{A}\n7\n{NA}\n{R}\nWhy.\n{NR}\n": (0.25, 0.0, 0.0, 0.5, 2.0),
    f"{NA}{A}{NR}{R}": (0.125, 0.0, 0.0, 0.0, 0.0),
    ONE_LINE + ONE_LINE: (0.0, 0.0, 0.0, 0.5, 2.0),
    f"{R}\na\n{NR}\n{A}\n8\n{NA}\n{A}\n7\n{NA}": (0.25, 0.0, 0.0, 0.5, 2.0),
    f"{R}\nI write {A} now.\n{NR}\n{A}\n7\n{NA}": (0.375, 0.0, 0.0, 0.5, 2.0),
    tagged("", "7"): (0.5, 0.0, 0.0, 0.5, 2.0),
    tagged(" \n ", "7"): (0.5, 0.0, 0.0, 0.5, 2.0),
    tagged("a", ""): (0.5, 0.0, 0.0, 0.0, 0.0),
    f"{R}{NR}{A}{NA}": (0.5, 0.0, 0.0, 0.0, 0.0),
    "So: " + ONE_LINE: (0.5, 0.0, 0.0, 0.5, 2.0),
    ONE_LINE + "That is all.": (0.5, 0.0, 0.0, 0.5, 2.0),
    f"{R}\na\n{NR}\n{A}\n7": (0.375, 0.0, 0.0, 0.0, 0.0),
    tagged("a", "7 pens"): (0.5, 0.5, 0.5, 0.0, 0.0),
    "\n" + ONE_LINE: (0.5, 0.5, 0.0, 0.5, 2.0),
    "<think>" + ONE_LINE: (0.0, 0.0, 0.0, 0.0, 0.0),
    "<think>" + ONE_LINE + "</think>": (0.0, 0.0, 0.0, 0.0, 0.0),
    tagged("a", "8"): (0.5, 0.5, 0.5, 0.5, 0.0),
    "7": (0.0, 0.0, 0.0, 0.0, 0.0),
    "": (0.0, 0.0, 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize(("text", "values"), OTHER.items())
def test_other_formats_earn_their_part_of_the_robust_marks(text, values):
    assert tuple(score("robust", name, text) for name in SEVEN[:5]) == values


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("7.0", "7"), ("$7", "7"), ("7.", "7"), ("1,000", "1000"), ("1000", "1,000"), ("-7", "-7"), ("−7", "-7"),
        ("0.50", "0.5"), ("50%", "50"), ("７", "7"), ("\n\n7\n", "7"), ("$7$", "7"), ("**7**", "7"), ("–7", "-7"),
        (r"\boxed{7}", "7"), ("7\u200b", "7"), ("9{,}500", "9500"), ("3/4", "0.75"), ("0.75", "3/4"),
    ],
)  # fmt: skip
def test_robust_correctness_and_int_accept_any_way_to_write_the_number(answer, gold):
    assert score("robust", "correctness", tagged("a", answer), gold) == 2.0
    assert score("robust", "int", tagged("a", answer), gold) == 0.5


def test_well_formed_texts_are_those_that_strict_format_rewards():
    assert [well_formed(text) for text in (ONE_LINE, TWO_LINES, FLAT, "")] == [True, True, False, False]


@pytest.mark.parametrize(("split", "count"), [("train", 7473), ("test", 1319)])
def test_every_gold_of_gsm8k_earns_full_marks_in_the_requested_format(gsm8k, split, count):
    rows = read_jsonl(gsm8k / f"{split}.jsonl")
    golds = [gold_answer(row["answer"]) for row in rows]
    works = [ANNOTATION.sub("", row["answer"].split("####")[0].strip()) for row in rows]
    batch = completions(*map(tagged, works, golds))
    assert len(batch) == count
    for name, function in TABLE["robust"].items():
        assert function(completions=batch, answer=golds) == [FULL[name]] * count
    assert TABLE["published"]["correctness"](completions=batch, answer=golds) == [2.0] * count


# The control


def random_rewards(step, *texts):
    return TABLE["control"]["random"](completions=completions(*texts), trainer_state=SimpleNamespace(global_step=step))


def test_random_rewards_depend_on_the_step_and_not_on_the_text():
    assert random_rewards(3, *[ONE_LINE] * 64) == random_rewards(3, *[""] * 64)
    assert random_rewards(3, *[ONE_LINE] * 64) != random_rewards(4, *[ONE_LINE] * 64)


def test_random_rewards_are_zero_or_full_marks_with_equal_frequency():
    values = random_rewards(1, *[ONE_LINE] * 1000)
    assert set(values) == {0.0, 2.0}
    assert 400 < values.count(2.0) < 600


# Any text at all

PIECES = [*TAGS, *"\n 7-$,.²７七\u2028\x00a", "72.0", "</s>", "<|im_end|>", "<|", "\n\n"]
TEXTS = st.lists(st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=3)).map("".join), max_size=5)


def check_every_function(texts):
    batch, golds = completions(*texts), ["7"] * len(texts)
    for reward_set in ("published", "robust"):
        for name, function in TABLE[reward_set].items():
            values = function(completions=batch, answer=golds)
            assert [type(value) for value in values] == [float] * len(texts)
            if name == "xmlcount":
                low = [-0.002 * len(text) for text in texts] if reward_set == "published" else [0.0] * len(texts)
                assert all(lowest <= value <= 0.5 for lowest, value in zip(low, values, strict=True))
            else:
                assert set(values) <= {0.0, FULL[name]}
    assert set(random_rewards(len(texts), *texts)) <= {0.0, 2.0}


@given(TEXTS)
def test_any_texts_give_every_function_values_in_its_range(texts):
    check_every_function(texts)


def test_real_files_as_completions_give_values_in_range(root):
    texts = [path.read_text(encoding="utf-8") for path in sorted(root.glob("workflow/**/*.py"))]
    assert len(texts) > 20
    check_every_function(texts + [f"{R}\n{text}\n{NR}\n{A}\n{text}\n{NA}\n" for text in texts])


def test_the_time_grows_no_faster_than_the_text():
    text = ONE_LINE.replace("four", " " * 30_000)
    began = time.process_time()
    assert [score("robust", name, text) for name in SEVEN] == list(FULL.values())
    assert time.process_time() - began < 2
