"""The tasks of an evaluation: their order, their names, and the files of their answers."""

from gsm8k_grpo.config.sections import QuestionSet
from gsm8k_grpo.stages.evaluate.tasks import tasks


def test_the_test_split_comes_first_then_with_each_prompt_then_each_further_set(small):
    evaluate = {"prompts": ["plain", "8-shot"], "sets": {"svamp": QuestionSet(path="svamp.jsonl")}}
    params = small.model_copy(update={"evaluate": small.evaluate.model_copy(update=evaluate)})
    assert [(task.set, task.prompt, task.name, task.file) for task in tasks(params)] == [
        ("test", "trained", "test", "answers.jsonl"),
        ("test", "plain", "test, plain", "prompts/plain.jsonl"),
        ("test", "8-shot", "test, 8-shot", "prompts/8-shot.jsonl"),
        ("svamp", "trained", "svamp", "sets/svamp.jsonl"),
    ]
