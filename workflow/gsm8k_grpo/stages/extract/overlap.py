"""Overlap of the questions of a test set with those of train: what a model may have learned by heart.

Two questions are the same where their words are, whatever case, punctuation and width of their characters.  They share
a passage where as many words in a row stand in both; 13 is the length that Brown et al. 2020 ("Language Models are
Few-Shot Learners", appendix C) chose.  A question of fewer words shares none.  A Chinese character is a word.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
EXAMPLES = 10

Rows = list[dict[str, Any]]


def overlap(train: Rows, sets: dict[str, Rows], size: int) -> list[dict[str, Any]]:
    """A row of overlap.json for each test set: `set, n, exact, ngram, size, examples`.

    `exact` counts its questions that stand in train, `ngram` those that share a passage of `size` words with a question
    of train, the same ones among them if they are as long; `examples` are ids of up to 10 of both, exact ones first.
    """
    known = {words(row["question"]) for row in train}
    passages = {passage for question in known for passage in ngrams(question, size)}
    return [_row(name, rows, known, passages, size) for name, rows in sets.items()]


def _row(name: str, rows: Rows, known: set[tuple[str, ...]], passages: set[tuple[str, ...]], size: int) -> dict:
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


def words(text: str) -> tuple[str, ...]:
    """The words of a text in normal form, without punctuation."""
    return tuple(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def ngrams(question: tuple[str, ...], size: int) -> Iterable[tuple[str, ...]]:
    return (question[start : start + size] for start in range(len(question) - size + 1))
