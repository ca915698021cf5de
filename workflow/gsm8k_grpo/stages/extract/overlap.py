"""Overlap of the questions of a test set with those of train: questions that a model may have memorised.

Two questions are the same if their words are, whatever their case, punctuation and width of characters.
They share a passage if `size` consecutive words are in both.  The default of 13 is the length that Brown et al. 2020
("Language Models are Few-Shot Learners", appendix C) chose.  A shorter question shares no passage.  Each Chinese
character counts as a word.
"""

import re
import unicodedata
from collections.abc import Iterable

from gsm8k_grpo.records import Example, Overlap

WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
EXAMPLES = 10

Words = tuple[str, ...]


def overlap(train: list[Example], sets: dict[str, list[Example]], size: int) -> list[Overlap]:
    """The rows of overlap.json, one for each test set."""
    known = {words(row["question"]) for row in train}
    passages = {passage for question in known for passage in ngrams(question, size)}
    return [_of_set(name, rows, known, passages, size) for name, rows in sets.items()]


def _of_set(name: str, rows: list[Example], known: set[Words], passages: set[Words], size: int) -> Overlap:
    questions = {row["id"]: words(row["question"]) for row in rows}
    exact = [id for id, question in questions.items() if question in known]
    ngram = [id for id, question in questions.items() if not passages.isdisjoint(ngrams(question, size))]
    examples = list(dict.fromkeys([*exact, *ngram]))[:EXAMPLES]
    return {
        "set": name,
        "n": len(rows),
        "exact": len(exact),
        "ngram": len(ngram),
        "size": size,
        "examples": examples,
    }


def words(text: str) -> Words:
    """The words of a text, case-folded and in Unicode's normal form NFKC, without punctuation."""
    return tuple(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def ngrams(question: Words, size: int) -> Iterable[Words]:
    """All sequences of `size` consecutive words."""
    return (question[start : start + size] for start in range(len(question) - size + 1))
