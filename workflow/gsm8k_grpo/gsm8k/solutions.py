"""The parts of a GSM8K solution: the work with its calculator annotations, then `####` and the answer."""

import re

from gsm8k_grpo.gsm8k.answer_formats import AnswerForm, formatted

ANNOTATION = re.compile(r"<<([^>]*)>>")


def work_of(solution: str) -> str:
    """The work of a solution as published: everything before `####`, with annotations; empty if there is no `####`."""
    work, mark, _ = solution.partition("####")
    return work.strip() if mark else ""


def formatted_solution(work: str, answer: str, form: AnswerForm) -> str:
    """The work without its annotations and the answer, in the format that the system prompt asks for."""
    return formatted(form, ANNOTATION.sub("", work), answer)
