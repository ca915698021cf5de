"""A signal during a generation stops training at once.  The same command then resumes and ends in the same bytes."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_run import MODEL_FILES, STEPS, TRAIN, command, history, logged_steps, mlflow_run, run

# `gsm8k-grpo`, which signals itself at the fifth token of a generation and says how many tokens it still generates.
SCRIPT = """
import functools, os, signal, sys
from transformers import GenerationMixin, Qwen2ForCausalLM
from gsm8k_grpo import cli

signalled_in = int(sys.argv.pop(1))
generate, forward = GenerationMixin.generate, Qwen2ForCausalLM.forward
generations = tokens = 0

@functools.wraps(generate)
def counted_generate(self, *args, **kwargs):
    global tokens
    tokens = 0
    return generate(self, *args, **kwargs)

@functools.wraps(forward)  # transformers and TRL look at the names of its arguments
def counted_forward(self, *args, **kwargs):
    global generations, tokens
    tokens += 1
    generations += tokens == 5  # the checks before training generate fewer tokens
    if (generations, tokens) == (signalled_in, 5):
        os.kill(os.getpid(), signal.SIGTERM)
    return forward(self, *args, **kwargs)

GenerationMixin.generate, Qwen2ForCausalLM.forward = counted_generate, counted_forward
try:
    cli.main()
finally:
    print("tokens:", tokens)
"""


def train_signalled(folder: Path, generation: int, **settings) -> subprocess.CompletedProcess[str]:
    arguments = command(TRAIN, **settings)[1:]
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(generation), *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoints/short-*/checkpoint-*"))


# The second generation begins within the first epoch, the third with the second epoch.
@pytest.mark.parametrize(("generation", "step"), [(2, 4), (3, 8)])
def test_training_stops_within_a_generation_and_goes_on_to_the_same_bytes(folder, uninterrupted, generation, step):
    stopped = train_signalled(folder, generation, train__save_steps=100)
    assert stopped.returncode == 128 + 15, stopped.stderr
    assert stopped.stdout.endswith("tokens: 5\n")
    assert saved(folder) == [f"checkpoint-{step}"]
    assert mlflow_run(folder).info.status == "KILLED"
    assert logged_steps(folder) == STEPS[:step]

    run(folder, TRAIN, train__save_steps=100)
    for file in MODEL_FILES:
        assert (folder / file).read_bytes() == (uninterrupted / file).read_bytes()
    assert history(folder) == history(uninterrupted)
    assert logged_steps(folder) == STEPS


def test_a_signal_in_the_first_generation_leaves_nothing_to_resume(folder):
    stopped = train_signalled(folder, 1)
    assert stopped.returncode == 128 + 15, stopped.stderr
    assert stopped.stdout.endswith("tokens: 5\n")
    assert saved(folder) == []
    assert mlflow_run(folder).info.status == "KILLED"
