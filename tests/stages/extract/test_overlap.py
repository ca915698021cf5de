"""Overlap of test sets with train: equal questions, and shared passages."""

from gsm8k_grpo.stages.extract.overlap import overlap, words

PASSAGE = "a shelf holds five rows of jars and each row has seven jars"  # 13 words


def rows(name: str, *questions: str) -> list[dict]:
    return [{"id": f"{name}-{index}", "question": question} for index, question in enumerate(questions)]


def overlap_of(train: list[str], test: list[str], size: int = 13) -> dict:
    (row,) = overlap(rows("train", *train), {"test": rows("test", *test)}, size)
    return row


def test_questions_that_differ_in_case_punctuation_or_spaces_are_equal():
    assert words("How many?  2,000 Jars!") == ("how", "many", "2", "000", "jars")
    assert overlap_of(["How many JARS?"], ["how many -- jars", "How many cups?"]) == {
        "set": "test", "n": 2, "exact": 1, "ngram": 0, "size": 13, "examples": ["test-0"],
    }  # fmt: skip


def test_a_shared_passage_of_the_size_counts_and_a_shorter_one_does_not():
    train = [f"Once, {PASSAGE}. How many?"]
    test = [f"Here {PASSAGE}!", f"Here {PASSAGE.removesuffix(' jars')} cups"]
    assert (overlap_of(train, test)["ngram"], overlap_of(train, test)["examples"]) == (1, ["test-0"])
    assert overlap_of(train, test, size=12)["ngram"] == 2


def test_a_passage_does_not_span_two_questions():
    half, other = PASSAGE.split(" rows ")
    assert overlap_of([f"{half} rows", other], [PASSAGE])["ngram"] == 0


def test_in_chinese_a_character_is_a_word():
    assert words("有5排,每排7个") == ("有", "5", "排", "每", "排", "7", "个")
    assert overlap_of(["一个架子有5排,每排7个罐子。"], ["那个架子有5排,每排7个罐子"], size=10)["ngram"] == 1


def test_every_set_has_a_row_and_names_its_own_questions():
    sets = {"test": rows("test", "a b c"), "own": rows("own", "x", "a b c")}
    assert [(row["set"], row["n"], row["exact"], row["examples"]) for row in overlap(rows("t", "A b c."), sets, 3)] == [
        ("test", 1, 1, ["test-0"]),
        ("own", 2, 1, ["own-1"]),
    ]


def test_there_are_at_most_ten_examples_with_equal_questions_first():
    train = [PASSAGE, "one more"]
    row = overlap_of(train, [f"number {n} {PASSAGE}" for n in range(15)] + ["One more"])
    assert (row["exact"], row["ngram"]) == (1, 15)
    assert row["examples"] == ["test-15", *(f"test-{n}" for n in range(9))]
