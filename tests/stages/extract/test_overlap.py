"""Overlap of test sets with train: the same questions, and passages that both have."""

from gsm8k_grpo.stages.extract.overlap import overlap, words

PASSAGE = "a shelf holds five rows of jars and each row has seven jars"  # 13 words


def rows(name: str, *questions: str) -> list[dict]:
    return [{"id": f"{name}-{index}", "question": question} for index, question in enumerate(questions)]


def found(train: list[str], test: list[str], size: int = 13) -> dict:
    (row,) = overlap(rows("train", *train), {"test": rows("test", *test)}, size)
    return row


def test_case_punctuation_spaces_and_width_make_no_other_question():
    assert words("How many?  2,000 Jars!") == ("how", "many", "2", "000", "jars")
    assert found(["How many JARS?"], ["how many -- jars", "How many cups?"]) == {
        "set": "test", "n": 2, "exact": 1, "ngram": 0, "size": 13, "examples": ["test-0"],
    }  # fmt: skip


def test_a_shared_passage_of_the_size_counts_and_a_shorter_one_does_not():
    train = [f"Once, {PASSAGE}. How many?"]
    test = [f"Here {PASSAGE}!", f"Here {PASSAGE.removesuffix(' jars')} cups"]
    assert (found(train, test)["ngram"], found(train, test)["examples"]) == (1, ["test-0"])
    assert found(train, test, size=12)["ngram"] == 2


def test_a_passage_does_not_run_over_from_one_question_to_the_next():
    half, other = PASSAGE.split(" rows ")
    assert found([f"{half} rows", other], [PASSAGE])["ngram"] == 0


def test_in_chinese_a_character_is_a_word():
    assert words("有5排,每排7个") == ("有", "5", "排", "每", "排", "7", "个")
    assert found(["一个架子有5排,每排7个罐子。"], ["那个架子有5排,每排7个罐子"], size=10)["ngram"] == 1


def test_every_set_has_a_row_and_names_its_own_questions():
    sets = {"test": rows("test", "a b c"), "own": rows("own", "x", "a b c")}
    assert [(row["set"], row["n"], row["exact"], row["examples"]) for row in overlap(rows("t", "A b c."), sets, 3)] == [
        ("test", 1, 1, ["test-0"]),
        ("own", 2, 1, ["own-1"]),
    ]


def test_ten_examples_are_given_the_same_questions_first():
    train = [PASSAGE, "one more"]
    row = found(train, [f"number {n} {PASSAGE}" for n in range(15)] + ["One more"])
    assert (row["exact"], row["ngram"]) == (1, 15)
    assert row["examples"] == ["test-15", *(f"test-{n}" for n in range(9))]
