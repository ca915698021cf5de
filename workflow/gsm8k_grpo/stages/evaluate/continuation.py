"""The contamination probe: which questions does a model know by heart?

A model gets the first half of a question, without a chat template or an instruction, and continues it greedily.  If its
next words are those of the second half, it has seen the question before: nothing else leads to the same words.  ROUGE-L
(Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"), the F-measure of the longest common subsequence of
words, shows how close the other continuations come.  Texts of one kind have some words in common, so compare ROUGE-L
with that of generated problems, which the model can't have seen.

A low share does not show that a question was not in the pretraining data, only that the model can't recite it.

Golchin and Surdeanu 2024, "Time Travel in LLMs: Tracing Data Contamination in Large Language Models" (arXiv 2308.08493)
let a model complete the second part of an instance and use ROUGE-L.  Wu et al. 2025, "Reasoning or Memorization?
Unreliable Results of Reinforcement Learning Due to Data Contamination" (arXiv 2507.10532) use the share of questions
whose rest is completed exactly.  They cut after 40, 60 or 80 %; here questions are cut after half of the words.
"""

import re
from collections.abc import Sequence

from gsm8k_grpo.models.engine import Engine
from gsm8k_grpo.records import Continuation, Example

WORD = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")  # each Chinese character is a word
SPARE_TOKENS = 8  # the same words may take more tokens in a continuation than in a text of their own


def continue_questions(name: str, examples: Sequence[Example], engine: Engine, progress: str) -> list[Continuation]:
    """Have a model continue every question of a set that has two words or more.

    Args:
        name: the name of the set.
        progress: the label of the progress bar.
    """
    cut = [(example["id"], *halves(example["question"])) for example in examples]
    cut = [(id, given, expected) for id, given, expected in cut if expected]
    limit = max((len(engine.tokenizer(expected)["input_ids"]) for *_, expected in cut), default=0) + SPARE_TOKENS
    completions = engine.complete([given for _, given, _ in cut], limit, progress)
    return [
        row(name, id, given, expected, completion.text)
        for (id, given, expected), completion in zip(cut, completions, strict=True)
    ]


def halves(question: str) -> tuple[str, str]:
    """The first half of the words, with the middle word if their number is odd, and the rest, which may be empty."""
    ends = [match.end() for match in WORD.finditer(question)]
    middle = ends[(len(ends) + 1) // 2 - 1]
    return question[:middle], question[middle:].rstrip()


def row(name: str, id: str, given: str, expected: str, text: str) -> Continuation:
    """A continuation with its scores; what `text` has after the length of the expected words does not count."""
    words = WORD.findall(expected)
    ends = [match.end() for match in WORD.finditer(text)][: len(words)]
    completion = text[: ends[-1]] if ends else ""
    return {
        "set": name,
        "id": id,
        "given": given,
        "expected": expected,
        "completion": completion,
        "exact": WORD.findall(completion) == words,
        "rouge_l": rouge_l(words, WORD.findall(completion)),
    }


def rouge_l(reference: Sequence[str], candidate: Sequence[str]) -> float:
    """The F-measure of the longest common subsequence: 1 for the same words in the same order, 0 for none in common."""
    lengths = [0] * (len(candidate) + 1)  # of the longest common subsequence with the first words of the candidate
    for word in reference:
        diagonal = 0
        for index, other in enumerate(candidate, start=1):
            longer = diagonal + 1 if word == other else max(lengths[index], lengths[index - 1])
            diagonal, lengths[index] = lengths[index], longer
    return 2 * lengths[-1] / (len(reference) + len(candidate))
