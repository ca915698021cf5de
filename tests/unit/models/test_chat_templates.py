"""Chat templates of several families: each takes a system prompt and renders the same on every day."""

import datetime
import signal
import time

import pytest
from chats import chat
from families import GEMMA_2, LLAMA_3, model_of, tokenizer_of
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.gsm8k.prompts import SYSTEM
from gsm8k_grpo.models import chat_templates, loading
from transformers import PreTrainedTokenizerFast

CHAT = chat("What is 2 and 3?", "english", one_shot=True)


def settled(family: str, template: str) -> PreTrainedTokenizerFast:
    tokenizer = tokenizer_of(family)
    tokenizer.chat_template = template
    chat_templates.settle(tokenizer, "tests/model")
    return tokenizer


def rendered(tokenizer: PreTrainedTokenizerFast, **variables) -> str:
    return tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True, **variables)


def test_a_refused_system_prompt_comes_before_the_first_turn_of_the_user():
    tokenizer = settled("gemma2", GEMMA_2)
    first, example, question = (message["content"].strip() for message in CHAT[1:])
    assert rendered(tokenizer) == (
        f"<bos><start_of_turn>user\n{SYSTEM['tags']['english'].strip()}\n\n\n{first}<end_of_turn>\n"
        f"<start_of_turn>model\n{example}<end_of_turn>\n<start_of_turn>user\n{question}<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


def test_a_conversation_without_a_system_prompt_is_rendered_as_the_template_has_it():
    messages = CHAT[1:]
    original = tokenizer_of("gemma2").apply_chat_template(messages, tokenize=False)
    assert settled("gemma2", GEMMA_2).apply_chat_template(messages, tokenize=False) == original


def test_a_dropped_system_prompt_comes_before_the_first_turn_of_the_user():
    drops = "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] + '<eos>' }}{% endif %}{% endfor %}"
    assert rendered(settled("gemma2", drops)).startswith(SYSTEM["tags"]["english"] + "\n\n" + CHAT[1]["content"])


def test_a_saved_tokenizer_renders_as_the_loaded_one(tmp_path):
    tokenizer = loading.load_tokenizer(str(model_of("gemma2", tmp_path / "model")))
    tokenizer.save_pretrained(tmp_path / "saved")
    again = loading.load_tokenizer(str(tmp_path / "saved"))
    assert (again.chat_template, rendered(again)) == (tokenizer.chat_template, rendered(tokenizer))


@pytest.mark.parametrize(
    ("call", "date"),
    [
        ("strftime_now('%d %b %Y')", "26 Jul 2024"),
        ('strftime_now( "%Y-%m-%d" )', "2024-07-26"),
        ("strftime_now('%B %d, %Y')", "July 26, 2024"),
    ],
)
def test_a_template_that_asks_for_todays_date_gets_a_fixed_one(call, date):
    template = "{% if strftime_now is defined %}{{ " + call + " }}{% endif %}{{ messages[0]['content'] }}"
    tokenizer = tokenizer_of("qwen3")
    tokenizer.chat_template = template
    assert str(datetime.date.today().year) in rendered(tokenizer)
    assert rendered(settled("qwen3", template)) == date + CHAT[0]["content"]


def test_another_date_can_be_given_to_a_template_that_has_a_variable_for_it():
    tokenizer = settled("llama3", LLAMA_3)
    assert "Today Date: 26 Jul 2024\n" in rendered(tokenizer)
    assert "Today Date: 1 May 2025\n" in rendered(tokenizer, date_string="1 May 2025")


def test_a_template_without_such_faults_is_not_touched():
    for template in ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "\n  {{ messages[0]['content'] }}"):
        assert settled("qwen3", template).chat_template == template


@pytest.mark.parametrize("broken", ["{{ raise_exception('no chats') }}", "{% for %}", "{{ 1 / 0 }}", "{{ 1 + 'a' }}"])
def test_a_template_that_fails_is_an_error_in_one_line(broken):
    with pytest.raises(PipelineError, match=r"^model = tests/model: its chat template fails \(.*chat_template\.jinja$"):
        settled("qwen3", broken)


def test_a_template_that_computes_for_ever_is_an_error_in_one_line(monkeypatch):
    monkeypatch.setattr(chat_templates, "SECONDS", 0.2)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    began = time.monotonic()
    with pytest.raises(PipelineError) as stopped:
        settled("qwen3", endless)
    assert time.monotonic() - began < 5
    line = "model = tests/model: its chat template fails (it did not end within 0.2 seconds)"
    assert str(stopped.value).startswith(line)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_model_without_a_template_is_named_with_what_to_do(tmp_path):
    folder = model_of("base", tmp_path / "model")
    with pytest.raises(PipelineError) as stopped:
        loading.load_tokenizer(str(folder))
    message = str(stopped.value)
    assert message.startswith(f"model = {folder}: its tokenizer has no chat template")
    assert "instruction-tuned" in message
    assert "chat_template.jinja" in message
    assert "\n" not in message
