"""Reading and comparing answers, and the stage extract."""

import json

import pytest
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_jsonl
from gsm8k_grpo.gsm8k.answers import free_answer, gold_answer, last_number, number, same_answer, xml_answer
from gsm8k_grpo.gsm8k.prompts import chat
from gsm8k_grpo.stages.extract.stage import extract
from hypothesis import given
from hypothesis import strategies as st

LONG = "12345678901234567890123456789012345678901234567890"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("72", "72"), ("100", "100"), (LONG, LONG), (" 72\n", "72"), ("007", "7"), ("+7", "7"),
        ("72.0", "72"), ("72.50", "72.5"), ("0.10", "0.1"), (".5", "0.5"), ("-.5", "-0.5"), ("9.919", "9.919"),
        ("1,072", "1072"), ("1,234,567.80", "1234567.8"), ("-1,000", "-1000"),
        ("$72", "72"), ("$ 72", "72"), ("$1,072.50", "1072.5"), ("50%", "50"), ("50 %", "50"), ("-0.5%", "-0.5"),
        ("72.", "72"), ("72.0.", "72"), ("$5.", "5"), ("50%.", "50"), ("72。", "72"),
        ("-7", "-7"), ("- 7", "-7"), ("-$7", "-7"), ("$-7", "-7"), ("- $ 7", "-7"), ("−7", "-7"), ("－７", "-7"),
        ("７２", "72"), ("１，０７２．５０", "1072.5"), ("＄５０", "50"), ("５０％", "50"), ("＋３", "3"),
        ("0", "0"), ("-0", "0"), ("+0", "0"), ("000", "0"), ("0.00", "0"), ("-0.0", "0"), ("$0", "0"), (".0", "0"),
    ],
)  # fmt: skip
def test_number_has_one_normal_form(text, normal):
    assert number(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "seventy-two", "72 pears", "about 72", "72 73", "1,07", "10,72", "1,0000", ",072", "1.2.3", "7..",
        "--7", "-$-7", "+-7", "7-", "$", "%", "-", ".", "1e5", "0x10", "1_000", "½", "²", "٧٢", "七", "nan", "inf",
        "3/4", "7:30", "<answer>72</answer>",
    ],
)  # fmt: skip
def test_number_is_none_where_the_text_is_not_one_number(text):
    assert number(text) is None


@given(st.text() | st.text("0123456789,.$%+-− ７"))
def test_the_normal_form_of_a_normal_form_is_itself(text):
    normal = number(text)
    assert normal is None or number(normal) == normal


@given(st.integers(), st.sampled_from(["{:d}", "{:,d}", "{:d}.0", " {:,d}.00 ", "{:d}%", "{:+d}"]))
def test_every_way_to_write_an_integer_is_read(value, written):
    assert number(written.format(value)) == str(value)


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("One and two make 1+2=<<1+2=3>>3.\n#### 3", "3"),
        ("It costs $1,200.\n#### 1,200", "1200"),
        ("He owes money.\n#### -4", "-4"),
        ("####5", "5"),
        ("A half.\n####  0.50 \n", "0.5"),
    ],
)
def test_the_gold_answer_is_the_number_behind_the_hashes(solution, gold):
    assert gold_answer(solution) == gold


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        ("The answer is 72.", "has 0 '####' marks, exactly one is expected"),
        ("#### 7\n#### 8", "has 2 '####' marks, exactly one is expected"),
        ("#### seven", "'seven' behind '####' is not a number"),
        ("####", "'' behind '####' is not a number"),
    ],
)
def test_a_solution_without_one_gold_answer_is_refused(solution, reason):
    with pytest.raises(ValueError, match=reason):
        gold_answer(solution)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<reasoning>\na\n</reasoning>\n<answer>\n72\n</answer>\n", "72"),
        ("<answer>72</answer>", "72"),
        ("<answer>\n72\npears\n</answer>", "72\npears"),
        ("<answer>1</answer> no, <answer>2</answer>", "2"),
        ("<answer>1</answer> and then <answer>2", "1"),
        ("<answer>1<answer>2</answer>", "2"),
        ("<answer>1</answer>2</answer>", "1"),
        ("<answer></answer>", ""),
        ("<answer>72", None),
        ("72</answer>", None),
        ("</answer>72<answer>", None),
        ("<Answer>72</Answer>", None),
        ("72", None),
        ("", None),
    ],
)
def test_the_tagged_answer_is_the_last_closed_block(completion, answer):
    assert xml_answer(completion) == answer


@pytest.mark.parametrize(
    ("completion", "found"),
    [
        ("First 3, then 4.", "4"), ("It costs $1,072.50 in all.", "1072.5"), ("That is 50% of it", "50"),
        ("x = -3", "-3"), ("(-3)", "-3"), ("5-3", "3"), ("5 - 3", "3"), ("f(2)-3", "3"), ("so −8 degrees", "-8"),
        ("-$5", "-5"), ("$-5", "-5"), ("一共有７２个", "72"), ("1, 2", "2"), ("1,000, then 2,000.", "2000"),
        ("half is .5", "0.5"), ("72.0", "72"), ("#### 9", "9"), ("<answer>\n12\n</answer>", "12"),
        ("line 1\nline 22\n", "22"), ("no number", None), ("", None), ("½ or ٣", None),
    ],
)  # fmt: skip
def test_the_last_number_is_found_whatever_the_format(completion, found):
    assert last_number(completion) == found


@given(st.text() | st.text("0123456789,.$%+-− ７<answer>/\n"))
def test_any_text_can_be_read(text):
    assert xml_answer(text + "<answer>") == xml_answer(text)
    found = last_number(text)
    assert found is None or number(found) == found


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("72", "72", True), ("72.0", "72", True), ("$1,072", "1072", True), ("７２", "72", True), ("-0", "0", True),
        ("72", "-72", False), ("72", "7.2", False), ("9.11", "9.9", False), ("72 pears", "72", False),
        ("pears", "pears", False), ("", "", False), (None, "72", False), ("72", None, False), (None, None, False),
    ],
)  # fmt: skip
def test_answers_are_the_same_where_they_are_the_same_number(a, b, same):
    assert same_answer(a, b) is same
    assert same_answer(b, a) is same


# The stage


def published(n):
    return {"question": f"What is {n} and {n}?", "answer": f"{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}"}


def write_download(folder, split="train", line=1, content=None):
    """A download folder of 30 + 5 rows, one line of it replaced by `content`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in (("train", range(30)), ("test", range(100, 105))):
        lines = [json.dumps(published(n)).encode() for n in numbers]
        if name == split and content is not None:
            lines[line - 1] = content
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder


@pytest.fixture
def run(tmp_path, small):
    """Runs the stage on the 30 + 5 rows; gives its three files' rows."""
    source = write_download(tmp_path / "results" / "download")

    def run(target="extract", seed=1, **changes):
        folder = tmp_path / "results" / target
        extract(source, folder, small.extract.model_copy(update=changes), seed)
        return {split: read_jsonl(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}

    return run


def test_a_row_has_id_prompt_question_gold_and_solution(run):
    assert run()["test"][3] == {
        "id": "test-3",
        "prompt": chat("What is 103 and 103?", "english", False),
        "question": "What is 103 and 103?",
        "answer": "206",
        "solution": "103+103=<<103+103=206>>206\n#### 206",
    }


def test_validation_is_cut_from_train_and_nothing_is_lost(run):
    splits = run()
    train, validation = ({row["id"] for row in splits[name]} for name in ("train", "validation"))
    assert len(validation) == 8
    assert train.isdisjoint(validation)
    assert train | validation == {f"train-{index}" for index in range(30)}
    assert [row["question"] for row in splits["train"]] == [
        published(n)["question"] for n in range(30) if f"train-{n}" in train
    ]


def test_test_is_whole_and_in_the_published_order(run):
    assert [row["question"] for row in run()["test"]] == [published(n)["question"] for n in range(100, 105)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_rows(run, tmp_path):
    first, again, other = run("first", seed=1), run("again", seed=1), run("other", seed=2)
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "metrics.json"):
        assert (tmp_path / "results/first" / name).read_bytes() == (tmp_path / "results/again" / name).read_bytes()
    assert first == again
    assert first["validation"] != other["validation"]
    assert first["test"] == other["test"]


def test_the_counts_are_in_the_metrics(run, tmp_path):
    run(validation_rows=3)
    assert read_json(tmp_path / "results/extract/metrics.json") == {
        "train_rows": 27,
        "validation_rows": 3,
        "test_rows": 5,
    }


def test_a_free_answer_is_kept_as_given_and_asked_by_the_question_alone(tmp_path, small, capsys):
    source, target = tmp_path / "download", tmp_path / "extract"
    rows = [{"question": f"Where is {n}?", "answer": f"North of {n - 1}."} for n in range(4)]
    judged = {"question": "What is 2 and 2?", "answer": "It is 4, of course.\n#### 4"}
    write_jsonl(source / "train.jsonl", rows[:3])
    write_jsonl(source / "test.jsonl", [rows[3], judged])
    free = small.extract.model_copy(update={"answers": "free", "validation_rows": 1})
    extract(source, target, free, seed=1)
    train, test = (read_jsonl(target / f"{split}.jsonl") for split in ("train", "test"))
    assert {row["solution"] for row in train} < {row["answer"] for row in rows}
    assert all(row["answer"] is None for row in train)
    assert test == [
        {
            "id": "test-1",
            "prompt": [{"role": "user", "content": "What is 2 and 2?"}],
            "question": "What is 2 and 2?",
            "answer": "4",
            "solution": "It is 4, of course.\n#### 4",
        }
    ]
    assert read_jsonl(target / "validation.jsonl") == []
    assert read_json(target / "metrics.json") == {
        "train_rows": 2,
        "validation_rows": 0,
        "test_rows": 1,
        "validation_rows_without_number": 1,
        "test_rows_without_number": 1,
    }
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("extract: 1 of the 2 answers for test have no number behind '####'; ")
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("In 1995.", None),
        ("#### 1,995", "1995"),
        ("#### none", None),
        ("#### 1 or #### 2", None),
        ("x\n#### -3.50", "-3.5"),
    ],
)
def test_the_number_of_a_free_answer_is_the_one_behind_the_mark_and_no_other(text, number):
    assert free_answer(text) == number


def test_a_question_of_test_in_train_is_refused_however_it_is_spaced(run, tmp_path):
    shared = published(101) | {"question": " What is  101\nand 101?"}
    folder = write_download(tmp_path / "results" / "download", "train", 4, json.dumps(shared).encode())
    with pytest.raises(PipelineError) as stopped:
        run()
    assert str(stopped.value) == (
        f"{folder}/train.jsonl:4: the same question stands in {folder}/test.jsonl:2; take it out of one of the two"
    )
    assert not (tmp_path / "results" / "extract").exists()


def test_no_validation_rows_leave_train_whole(run):
    splits = run(validation_rows=0)
    assert len(splits["train"]) == 30
    assert splits["validation"] == []


def test_chinese_one_shot_prompts_are_made_where_asked(run):
    assert run(language="chinese", one_shot=True)["train"][0]["prompt"] == chat("What is 0 and 0?", "chinese", True)


def test_more_validation_rows_than_train_has_to_spare_are_refused(run, tmp_path):
    with pytest.raises(PipelineError, match=r"^extract.validation_rows = 30: .*has 30 rows; choose at most 29$"):
        run(validation_rows=30)
    assert not (tmp_path / "results" / "extract").exists()


def test_by_hand_a_stage_before_its_turn_names_the_missing_file(cli):
    done = cli("extract")
    assert (done.returncode, done.stderr) == (
        1,
        "error: results/download/train.jsonl: no such file; run the stage that writes it first\n",
    )


def test_gsm8k_goes_through_the_stage_whole(gsm8k, small, tmp_path):
    extract(gsm8k, tmp_path, small.extract.model_copy(update={"validation_rows": 473}), seed=1)
    counts = {name: len(read_jsonl(tmp_path / f"{name}.jsonl")) for name in ("train", "validation", "test")}
    assert counts == {"train": 7000, "validation": 473, "test": 1319}
