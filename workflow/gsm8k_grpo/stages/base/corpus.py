"""The text that a base model made here is pretrained on: the train split as the web would show it.

A web corpus holds the same problems in many manners, some worked out and some not, some with mistakes, and
writers keep to their habits.  So does this one, and the skill that GRPO brings out is latent in it: a model
that learned this corpus can reason step by step in the asked format, but mostly doesn't.
"""

import random
import re
import zlib
from decimal import Decimal
from typing import Any, NamedTuple

from gsm8k_grpo.config.sections import Base, Styles
from gsm8k_grpo.gsm8k.answers import DIGITS, same_answer
from gsm8k_grpo.gsm8k.prompts import Message, tagged
from gsm8k_grpo.gsm8k.solutions import ANNOTATION, tagged_solution, work_of

RESULT = re.compile(rf"(?<=[=>])(\s?\$?)(-?(?:{DIGITS}))")
DRILL_LINES = 12


class Document(NamedTuple):
    prompt: list[Message]
    completion: str


def corpus(rows: list[dict[str, Any]], base: Base, seed: int) -> list[Document]:
    """As many documents as pretraining takes: the rows in turn, each time answered anew, and drills between them."""
    rng = random.Random(seed)
    sums = [annotation for row in rows for annotation in ANNOTATION.findall(row["solution"])]
    documents = []
    for index in range(base.steps * base.batch_size):
        if sums and rng.random() < base.drills:
            documents.append(Document([], "\n".join(rng.choices(sums, k=DRILL_LINES))))
        else:
            row = rows[index % len(rows)]
            documents.append(Document(row["prompt"], completion(row, base.styles, base.favourite, base.slips, rng)))
    return documents


def completion(row: dict[str, Any], styles: Styles, favourite: float, slips: float, rng: random.Random) -> str:
    """One completion of a row of extract, in a style drawn at random.

    With probability `favourite` the style is the habit of the question's writer (its first word stands for
    the writer), else it is drawn anew; both by the weights `styles`.  With probability `slips` the last
    calculation and the answer are wrong.
    """
    names, weights = zip(*styles.model_dump().items(), strict=True)
    writer = random.Random(zlib.crc32(row["question"].split()[0].encode()))
    habit = writer.choices(names, weights)[0]
    style = habit if rng.random() < favourite else rng.choices(names, weights)[0]
    work, answer = work_of(row["solution"]), row["answer"]
    if rng.random() < slips:
        wrong = _slip(answer, rng)
        work, answer = _replace_last_result(work, answer, wrong), wrong
    return render(style, work, answer)


def render(style: str, work: str, answer: str) -> str:
    match style:
        case "terse":
            return f"The answer is {answer}."
        case "plain":
            return f"{work}\n#### {answer}"
        case "hurried":
            return tagged("I know this one.", answer)
        case "tagged":
            return tagged_solution(work, answer)
    raise ValueError(f"style '{style}': choose from {', '.join(Styles.model_fields)}")


def _slip(answer: str, rng: random.Random) -> str:
    return f"{Decimal(answer) + rng.choice([-10, -3, -2, -1, 1, 2, 3, 10]):f}"


def _replace_last_result(work: str, answer: str, wrong: str) -> str:
    """The work with the answer replaced where the last line gives it as a result: behind `=` and behind `>>`."""
    before, newline, last = work.rpartition("\n")
    return before + newline + RESULT.sub(lambda m: m[1] + wrong if same_answer(m[2], answer) else m[0], last)
