"""The configuration that each result notes: what is noted and when, and what is refused because it differs."""

import re
import shutil

import pytest
from gsm8k_grpo.commands.provenance import (
    first_difference,
    mention_outdated,
    noted,
    outdated,
    pipeline,
    read_by,
    require_current,
    result,
)
from gsm8k_grpo.commands.set_aside import set_aside
from gsm8k_grpo.config import params
from gsm8k_grpo.files import PipelineError, read_json, write_json, write_text
from gsm8k_grpo.stages.configure.stage import configure
from project import ROOT


def load(**overrides):
    return params.load(ROOT / "params.yaml", {key.replace("__", "."): value for key, value in overrides.items()})


@pytest.fixture
def settings():
    return load(seeds=[43])


@pytest.fixture
def results(tmp_path, monkeypatch, settings):
    """A folder in which every result exists and notes the configuration `settings`; no stage ran."""
    monkeypatch.chdir(tmp_path)
    configure(tmp_path / "results/configure", settings)
    for made in pipeline(settings):
        if made.rule != "configure":
            write_text(made.file, "made")
            write_json(made.note, made.values(settings))
    return tmp_path / "results"


def outdated_rules(**changes) -> set[str]:
    return {made.rule for made in outdated(load(seeds=[43], **changes))}


def test_results_of_the_present_configuration_are_current(results, settings):
    assert outdated(settings) == {}
    for rule, variant in (("compare", ""), ("card", "short"), ("report", "")):
        require_current(rule, settings, variant)


@pytest.mark.parametrize("rate", [1e-5, 5e-6, 1.5e-7])
def test_a_small_number_is_read_from_a_note_as_it_was_written(results, rate):
    small = load(train__learning_rate=rate)
    made = result("train", "short")
    write_json(made.note, made.values(small))
    assert made.change(small) is None
    configure(results / "configure", small)
    assert result("configure").change(small) is None


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"extract__language": "chinese"}, {"extract", "extract_sets", "evaluate", "card"}),
        ({"train__learning_rate": 1e-3}, {"train"}),
        ({"evaluate__questions": 5}, {"evaluate"}),
        ({"evaluate__sets": {}}, {"download_sets", "extract_sets", "evaluate"}),
        ({"tracking__uri": "http://localhost:5000"}, set()),
    ],
)
def test_a_changed_key_makes_the_results_of_the_stages_that_look_it_up_outdated(results, changes, rules):
    assert outdated_rules(**changes) == rules | {"configure", "report"}


def test_each_run_notes_its_own_variant(results, settings):
    assert "training.short_s43" in read_json(results / "train/short_s43/configuration.json")
    other = load(seeds=[43], variants={"short": {"max_steps": 8}, "full": {"epochs": 3}})
    assert {made.name for made in outdated(other) if made.rule == "train"} == {"short", "short_s43"}


@pytest.mark.parametrize("rule", ["compare", "card", "report"])
def test_a_stage_that_presents_results_of_another_configuration_names_the_first_stage_and_its_key(results, rule):
    with pytest.raises(PipelineError) as refused:
        require_current(rule, load(seeds=[43], seed=7), "short" if rule == "card" else "")
    message = str(refused.value)
    assert message.startswith("results/download: it was made with seed = 42, and the configuration has 7; run ")
    assert "`gsm8k-grpo download`" in message
    assert "\n" not in message


def test_the_command_that_makes_an_outdated_result_is_named(results):
    for changes, command in (
        ({"extract__language": "chinese"}, "gsm8k-grpo extract"),
        ({"train__learning_rate": 1e-3}, "gsm8k-grpo train --variant short"),
        ({"evaluate__questions": 5}, "gsm8k-grpo evaluate --model base"),
        ({"evaluate__overlap_words": 12}, "gsm8k-grpo extract --part sets"),
        ({"compare__resamples": 700}, "gsm8k-grpo evaluate --model base"),
    ):
        with pytest.raises(PipelineError, match=re.escape(f"`{command}`")):
            require_current("report", load(seeds=[43], **changes))


def test_a_card_does_not_present_the_other_variant(results, settings):
    (results / "train/full/configuration.json").unlink()
    require_current("card", settings, "short")
    with pytest.raises(PipelineError, match=r"^results/train/full: .*configuration\.json is missing"):
        require_current("report", settings)


@pytest.mark.parametrize(
    ("rule", "model", "changes", "stale"),
    [
        ("train", "short", {"extract__language": "chinese"}, "results/extract"),
        ("train", "short", {"base__steps": 5}, "results/base"),
        ("train", "short_s43", {"threads": 1}, "results/base"),
        ("train", "short", {"train__learning_rate": 1e-3}, None),
        ("train", "full", {"evaluate__sets": {}}, None),
        ("evaluate", "short", {"train__learning_rate": 1e-3}, "results/train/short"),
        ("evaluate", "full@50", {"train__learning_rate": 1e-3}, "results/train/full"),
        ("evaluate", "base", {"train__learning_rate": 1e-3}, None),
        ("evaluate", "base", {"evaluate__overlap_words": 12}, "results/extract"),
        ("evaluate", "base", {"evaluate__sets": {}}, None),
        ("evaluate", "base", {"evaluate__questions": 5}, None),
    ],
)
def test_a_stage_by_hand_refuses_what_it_reads_if_it_was_made_with_another_configuration(
    results, rule, model, changes, stale
):
    other = load(seeds=[43], **changes)
    if stale is None:
        require_current(rule, other, model)
        return
    with pytest.raises(PipelineError) as refused:
        require_current(rule, other, model)
    assert str(refused.value).startswith(f"{stale}: it was made with ")
    assert "\n" not in str(refused.value)


def test_training_reads_the_training_of_its_start_with_the_same_seed_and_no_other():
    variants = {"sft": {"epochs": 1, "method": "sft"}, "rl": {"epochs": 1, "start": "sft"}, "other": {"epochs": 1}}
    settings = load(seeds=[43], variants=variants)
    read = [made.name for made in read_by("train", settings, "rl_s43") if made.rule == "train"]
    assert read == ["sft_s43"]
    assert [made for made in read_by("train", settings, "other") if made.rule == "train"] == []
    evaluated = [made.name for made in read_by("evaluate", settings, "rl") if made.rule == "train"]
    assert evaluated == ["sft", "rl"]


def test_a_command_that_shows_such_results_names_the_first_one_and_goes_on(results, capsys, settings):
    for command, variant in (("summary", ""), ("ask", ""), ("export", "short")):
        mention_outdated(command, settings, variant)
        assert capsys.readouterr().err == ""
        mention_outdated(command, load(seeds=[43], base__steps=5), variant)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("note: results/base: it was made with base.steps = ")


@pytest.mark.parametrize(
    ("command", "start"),
    [
        ("train --variant short", "error: results/base: "),
        ("evaluate --model base", "error: results/base: "),
        ("summary", "note: results/base: "),
    ],
)
def test_the_commands_say_so(results, cli, command, start):
    for later in ("train", "report"):  # their files are no real ones
        shutil.rmtree(results / later)
    said = cli(*command.split(), "--set=seeds=[43]", "--set=base.steps=5").stderr
    assert said.startswith(f"{start}it was made with base.steps = ")
    assert "Traceback" not in said


def test_a_result_that_was_made_notes_its_keys(results):
    other = load(seed=7)
    with noted("base", other):
        assert not (results / "base/configuration.json").exists()
    expected = {"model", "base", "extract.answer_form", "threads", "seed"}
    assert read_json(results / "base/configuration.json").keys() == expected
    assert result("base").change(other) is None


def test_a_stage_that_fails_before_it_writes_leaves_the_former_result_and_its_note(results, settings):
    with pytest.raises(ZeroDivisionError), noted("base", load(seed=7)):
        raise ZeroDivisionError
    assert result("base").change(settings) is None


def test_a_stage_that_fails_after_it_has_written_leaves_no_note(results, settings):
    def fail() -> None:
        write_text(results / "base/metrics.json", "half of the result")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), noted("base", load(seed=7)):
        fail()
    assert "base/configuration.json is missing" in result("base").change(settings)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}, None),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ("a.c", "2", "3")),
        ({"a": None}, {"a": {"b": 1}}, ("a", "null", '{"b": 1}')),
        ({"a": 1}, {"a": 1, "b": "x"}, ("b", "nothing", '"x"')),
        ({"a": 1, "b": 1.0}, {"a": 1}, ("b", "1.0", "nothing")),
    ],
)
def test_the_first_difference_of_two_configurations(one, other, difference):
    assert first_difference(one, other) == difference


def test_the_results_of_former_variants_are_set_aside_and_no_others(results, settings):
    (results / "evaluate/short@50").mkdir()
    write_text(results / "former/train/full/notes.txt", "of an earlier time")
    moved = set_aside(results, settings.model_copy(update={"variants": {"short": settings.variants["short"]}}))
    assert {line.partition(":")[0] for line in moved} == {
        str(results / stage / name) for stage in ("train", "evaluate") for name in ("full", "full_s43")
    }
    assert {path.name for path in (results / "evaluate").iterdir()} == {"base", "short", "short_s43", "short@50"}
    assert sorted(path.name for path in (results / "former/train/full").iterdir()) == [
        "README.md", "card-configuration.json", "configuration.json", "metrics.json",
    ]  # fmt: skip
