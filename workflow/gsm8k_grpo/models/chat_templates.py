"""Chat templates that render the same prompt for every model and on every day.

A model without a template is refused.  A template that refuses the system prompt or names today's date is changed in
the loaded tokenizer.  The messages stay as they are, so that TRL, vLLM and programs that load a saved model render the
same prompt.
"""

import datetime
import re
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from gsm8k_grpo.files import PipelineError, first_line
from gsm8k_grpo.runtime.time_limit import time_limit

SECONDS = 10.0
"""The longest time that a template may take for one short conversation; real ones take milliseconds."""

DATE = datetime.date(2024, 7, 26)
"""The date that every template names; the one that Llama 3's own template falls back to."""

# Like Gemma 3's own template.  The line break ends the block for Jinja and is not part of the prompt.
FOLD_SYSTEM_PROMPT = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{%- set messages = [{'role': messages[1]['role'], "
    "'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] + messages[2:] %}"
    "{%- endif %}\n"
)
_TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


def settle(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Give the tokenizer a chat template that takes a system prompt and names a fixed date.

    - A template that refuses or drops the system prompt is made to put it before the first turn of the user, with an
      empty line between them.
    - `strftime_now(...)` becomes `DATE` in the same format.  If a template has a variable for the date, such as
      `date_string`, `chat_template_kwargs` can name another date.

    Args:
        name: the model, for the error.

    Raises:
        PipelineError: if the tokenizer has no chat template, or one that fails or does not end within `SECONDS`.
    """
    if tokenizer.chat_template is None:
        raise PipelineError(
            f"model = {name}: its tokenizer has no chat template, so it is probably a base model; give its "
            "instruction-tuned version, or a folder with a copy of it and a file chat_template.jinja"
        )
    template = original = tokenizer.get_chat_template()
    template = _TODAY.sub(lambda call: repr(DATE.strftime(call[2])), template)
    if not _takes_system_prompt(tokenizer, template):
        template = FOLD_SYSTEM_PROMPT + template
    try:
        _render(tokenizer, template, "system", "user")
    except Exception as error:  # a template is someone else's program, which can fail in any way
        raise PipelineError(
            f"model = {name}: its chat template fails ({first_line(error)}); give another model, or a folder with a "
            "copy of it and another chat_template.jinja"
        ) from error
    if template != original:
        tokenizer.chat_template = template


def _takes_system_prompt(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    try:
        return "the system" in _render(tokenizer, template, "system", "user")
    except TimeoutError:
        return True  # with a folded system prompt it would take as long
    except Exception:
        return False


def _render(tokenizer: PreTrainedTokenizerBase, template: str, *roles: str) -> str:
    """The text of a conversation with one message per role."""
    messages: list[Any] = [{"role": role, "content": f"the {role}"} for role in roles]
    with time_limit(SECONDS):
        rendered = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )
    return cast(str, rendered)
