"""Commands and options of earlier versions are answered with their present names."""

import pytest
from gsm8k_grpo.cli.app import app
from gsm8k_grpo.files import PipelineError
from typer.main import get_command
from typer.testing import CliRunner


@pytest.mark.parametrize(
    ("former", "present"),
    [
        (["plan", "--card", "3"], "gsm8k-grpo plan --gpu-gib 3"),
        (["plan", "--card", "7.5", "--set", "recipe=vram7gb"], "gsm8k-grpo plan --gpu-gib 7.5"),
        (["scratch"], "`gsm8k-grpo checkpoints`"),
        (["scratch", "--remove", "short-0123456789ab", "--remove-old"], "`gsm8k-grpo checkpoints`"),
    ],
)
def test_a_former_name_is_an_error_that_gives_the_present_one(former, present):
    answer = CliRunner().invoke(app, former)
    assert isinstance(answer.exception, PipelineError)
    assert present in str(answer.exception)


def test_former_names_are_hidden():
    commands = get_command(app).commands
    assert commands["scratch"].hidden
    assert [option.name for option in commands["plan"].params if option.hidden] == ["card"]
