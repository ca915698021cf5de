"""The benchmark scripts: their settings, models and arithmetic; the measurements themselves need a GPU."""

import shutil
import subprocess
import sys

import evaluate_speed
import memory_claim
import methods
import numpy as np
import pytest
import recipes as benchmark
import roofline
import smollm2
import smollm2_tables
import speed
from chats import chat
from gsm8k_grpo import files
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.recipes import read_recipe
from gsm8k_grpo.files import read_json
from gsm8k_grpo.gsm8k.problems import problems
from gsm8k_grpo.memory import shapes
from gsm8k_grpo.stages.base.corpus import Document
from project import ROOT
from random_model import filled_tokenizer
from transformers import AutoTokenizer


@pytest.fixture(scope="module")
def rows():
    generated = (row for row, _ in zip(problems("rich", 1), range(40), strict=False))
    return [{"prompt": chat(row["question"], "english", False), "solution": row["answer"]} for row in generated]


@pytest.mark.parametrize("recipe", benchmark.published())
def test_a_recipe_trains_its_few_steps_on_prompts_that_are_all_seen(recipe):
    settings = benchmark.settings_of(recipe, 20, None, {})
    assert settings.variants["short"].max_steps == 20
    assert settings.vram_gib == read_recipe(recipe)["vram_gib"]
    train = settings.train
    if settings.method == "sft":
        assert train.prompts == 20 * settings.sft.per_device_train_batch_size * settings.sft.gradient_accumulation_steps
        return
    generations, left_out = divmod(train.prompts, train.prompts_per_generation)
    assert left_out == 0
    assert generations * train.optimizer_steps_per_generation >= 20


@pytest.mark.parametrize("recipe", benchmark.published())
def test_the_small_form_of_a_recipe_is_valid_without_a_gpu(recipe):
    settings = benchmark.settings_of(recipe, 2, None, benchmark.SMALL)
    assert (settings.backend, settings.engine, settings.lora, settings.vram_gib) == ("trl", "transformers", None, None)


def test_the_tokenizer_has_the_models_vocabulary_and_still_reads_the_problems(rows, tmp_path):
    filled_tokenizer([Document(row["prompt"], row["solution"]) for row in rows], 5000).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 5000
    assert len(set(tokenizer.get_vocab().values())) == 5000
    text = rows[0]["solution"] + "\n<answer>\n7\n</answer>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([4999]) == "unused4999"
    assert 10 < benchmark.longest_prompt(rows, tokenizer) < 200


@pytest.mark.parametrize("name", speed.RUNS)
def test_the_runs_that_are_timed_are_six_completions_of_200_tokens_with_rank_32(name):
    recipe, changes, steps, left_out = speed.RUNS[name]
    params = load(ROOT / "params.yaml", speed.COMMON | {"recipe": recipe, "path": "data"} | changes)
    train = params.train
    assert (train.num_generations, train.max_completion_length, params.lora.rank) == (6, 200, 32)
    assert params.model == speed.MODEL
    assert left_out % train.optimizer_steps_per_generation == steps % train.optimizer_steps_per_generation == 0


def test_answers_for_fine_tuning_are_lengthened_beyond_the_limit(rows):
    tokenizer = filled_tokenizer([Document(row["prompt"], row["solution"]) for row in rows], 5000)
    longer = benchmark.lengthen(rows, 300)
    assert min(len(tokenizer(row["solution"])["input_ids"]) for row in longer) > 300
    assert all(after["solution"].startswith(before["solution"]) for before, after in zip(rows, longer, strict=True))


@pytest.mark.parametrize("small", [False, True])
def test_the_evaluation_that_is_timed_is_eight_samples_of_every_test_question(small):
    settings = evaluate_speed.settings_of(None, 200, small, {}).evaluate
    assert (settings.samples, settings.sampled_questions, settings.questions) == (8, None, None)
    assert (settings.max_completion_length, settings.prompts, settings.sets) == (200, [], {})


def test_the_time_of_the_evaluation_is_printed_task_by_task():
    row = {"set": "test", "prompt": "trained", "decoding": "sampled", "seconds": 5, "completions": 16}
    result = {
        "seconds": 9, "seconds_answering": 5, "seconds_starting_and_measuring": 4, "tokens_per_second": 640,
        "tasks": [row | {"completion_tokens": 3200}],
    }  # fmt: skip
    assert evaluate_speed.lines(result) == [
        "evaluate: 9.0 s, of which 5.0 answering at 640 tokens per second",
        "  test, trained, sampled: 16 answers, 3,200 tokens, 5.0 s",
        "  start of the engine, grading, metrics: 4.0 s",
    ]


def test_the_arithmetic_of_an_update_and_the_bytes_of_decoding_are_those_computed_by_hand():
    shape = shapes.shape_of(load(ROOT / "params.yaml", {"recipe": "rtx4090"}))
    work = roofline.Work(shape, 105, 200, 6, shared=True, sequences=282, at_once=282)
    assert work.update_flop() == 4 * 3_085_938_688 * (105 + 6 * 200)
    weights, cache = 200 * 3_085_938_688 * 2, 282 * 200 * 205 * 36 * 512 * 2
    assert work.decoded_bytes() * 47 == pytest.approx(weights + cache)
    limits = roofline.Limits(flops=800e12, bandwidth=4e12)
    shares = roofline.utilisation(work, limits, seconds_generate=0.05, seconds_update=0.1)
    assert shares["mfu"] == pytest.approx(work.update_flop() / 80e12)
    assert shares["bandwidth_share"] == pytest.approx(work.decoded_bytes() / 0.2e12)


def test_sequences_that_take_turns_read_the_weights_for_each_turn():
    shape = shapes.shape_of(load(ROOT / "params.yaml", {"recipe": "rtx4090"}))
    together, in_turns = (roofline.Work(shape, 0, 100, 6, False, sequences=12, at_once=turn) for turn in (12, 6))
    assert (in_turns.decoded_bytes() - together.decoded_bytes()) * 2 == 100 * 3_085_938_688 * 2


def test_the_limits_of_a_machine_are_measured():
    limits = roofline.measure()
    assert limits.flops > 1e8
    assert limits.bandwidth > 1e8


def test_the_sides_of_the_memory_claim_train_the_same_completions_of_the_same_model():
    """Only the first is Unsloth's; the others are TRL's with transformers, in 16 bit and without a limit."""
    sides = {side: benchmark.settings_of("vram7gb", 5, None, changes) for side, changes in memory_claim.SIDES.items()}
    first, *others = sides.values()
    assert (first.backend, first.engine, first.quantization, first.vram_gib) == ("unsloth", "vllm", "4bit", 7.0)
    for other in others:
        assert (other.backend, other.engine, other.quantization) == ("trl", "transformers", None)
        assert (other.precision, other.vram_gib) == ("bfloat16", None)
        assert other.model == first.model
        for key in ("prompts", "num_generations", "max_completion_length", "per_device_train_batch_size", "beta"):
            assert getattr(other.train, key) == getattr(first.train, key)
    assert sides["adapters"].lora == first.lora
    assert sides["all weights"].lora is None
    assert sides["adapters, recomputed"].train.gradient_checkpointing
    assert not sides["adapters"].train.gradient_checkpointing


def test_the_memory_claim_is_the_share_of_the_other_sides_memory_that_is_saved():
    assert memory_claim.lines({"unsloth": 7.0, "adapters": 35.0}) == [
        "unsloth: 7.00 GiB",
        "adapters: 35.00 GiB; unsloth takes 80% less",
    ]
    assert memory_claim.lines({"adapters": 35.0}) == ["adapters: 35.00 GiB"]
    assert memory_claim.planned_gib("unsloth") < memory_claim.CLAIMED_GIB < memory_claim.planned_gib("all weights")


@pytest.mark.parametrize("script", ["recipes", "evaluate_speed"])
def test_a_key_on_the_command_line_reaches_the_configuration(script):
    command = [sys.executable, ROOT / f"benchmarks/{script}.py", "--small", "--set", "no_such_key=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "no_such_key: no such key" in done.stderr


# smollm2.py and smollm2_tables.py

MEASURED = [ROOT / f"benchmarks/measured/{name}.json" for name in ("smollm2", "smollm2-250-steps")]


def arguments(*words):
    return smollm2.arguments().parse_args(list(words))


def test_a_variant_of_smollm2_is_evaluated_with_its_starts_and_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed = smollm2.overrides(arguments("--variant", "random", "--seeds", "43", "--path", "data", "--cpu"))
    settings = load(ROOT / "params.yaml", changed)
    assert smollm2.models(settings, ["random"]) == ["base", "sft", "sft_s43", "random", "random_s43"]
    assert smollm2.targets(["base"], whole=False) == ["results/evaluate/base/metrics.json"]
    assert (settings.engine, settings.source, settings.path) == ("transformers", "local", "data")


def test_a_trial_of_smollm2_shortens_the_chosen_variants_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed = smollm2.overrides(arguments("--variant", "full", "--steps", "5", "--set", "evaluate.questions=4"))
    settings = load(ROOT / "params.yaml", changed)
    lengths = {name: (variant.max_steps, variant.epochs) for name, variant in settings.variants.items()}
    assert (lengths["full"], lengths["sft"], lengths["random"]) == ((5, None), (None, 3), (None, 3))
    assert settings.evaluate.questions == 4


def test_sampled_answers_of_several_seeds_are_compared_question_by_question():
    few, many = np.full(20, 0.25), np.full(20, 0.75)
    difference, interval, p = smollm2_tables.mean_difference([(few, many), (few, many)])
    assert (difference, interval) == (0.5, [0.5, 0.5])
    assert p < 0.001
    assert smollm2_tables.mean_difference([(few, many), (many, few)])[0] == 0.0


def test_a_variant_is_compared_with_base_and_with_its_start_of_the_same_seed():
    outcomes = read_json(MEASURED[1])
    measured = {name: outcomes[name] for name in ("base", "sft", "sft_s43", "short")}
    compared = {(row.a, row.b) for row in smollm2_tables.differences(measured)}
    assert compared == {("base", "sft"), ("base", "sft_s43"), ("base", "short"), ("sft", "short")}
    further = smollm2_tables.differences(measured | {"short_s43": measured["short"]})
    assert ("sft_s43", "short_s43") in {(row.a, row.b) for row in further}


def test_greedy_answers_of_several_seeds_are_compared_question_by_question_too():
    rows = {(row.a, row.b, row.metric): row for row in smollm2_tables.differences(read_json(MEASURED[0]))}
    seeds = [rows[f"sft{seed}", f"full{seed}", "strict"].value for seed in ("", "_s43", "_s44")]
    pooled = rows["sft", "full", "strict, seeds: 3"]
    assert pooled.value == pytest.approx(sum(seeds) / 3)
    low, high = pooled.ci95
    assert low < pooled.value < high


def test_outcomes_are_collected_from_a_folder_without_a_text(tmp_path):
    evaluated = tmp_path / "results/evaluate/sft"
    metrics = dict.fromkeys(smollm2_tables.EVALUATED, 0.5)
    files.write_json(evaluated / "metrics.json", metrics | {"other": 1})
    greedy = {"question": "How many?", "completion": "Two.", "strict_correct": False, "flexible_correct": True}
    files.write_jsonl(evaluated / "answers.jsonl", [greedy, greedy | {"strict_correct": True}])
    files.write_jsonl(
        evaluated / "sampled.jsonl", [{"flexible_correct": [True, False]}, {"flexible_correct": [True] * 2}]
    )
    assert smollm2_tables.collect(tmp_path) == {
        "sft": {
            "evaluation": metrics, "training": None, "strict": "01", "flexible": "11", "sampled": "12", "samples": 2,
        }
    }  # fmt: skip


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_the_page_of_results_has_the_tables_of_what_was_measured(file, capsys):
    smollm2_tables.print_tables(read_json(file))
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 30
    assert [line for line in lines if line not in page] == []


# methods.py

RIGHT = np.array([1.0] * 60 + [0.0] * 40)


def test_methods_that_answer_alike_do_not_differ_and_one_that_answers_more_does():
    better = RIGHT.copy()
    better[60:80] = 1.0
    of = {name: {"strict": np.array([values])} for name, values in (("grpo", RIGHT), ("rloo", RIGHT), ("ppo", better))}
    alike, more = methods.differences(of)
    assert (alike["method"], alike["difference"], alike["p_value"], alike["p_holm"]) == ("rloo", 0.0, 1.0, 1.0)
    assert (more["method"], more["difference"]) == ("ppo", pytest.approx(0.2))
    assert more["p_value"] < 0.001
    assert more["p_holm"] == pytest.approx(2 * more["p_value"])
    assert more["ci95"][0] > 0.1
    assert more["p_trainings"] is None


def test_what_differs_between_trainings_is_tested_over_trainings():
    """Two of three trainings with 20 points more are significant over the questions, and not over the trainings."""
    better = RIGHT.copy()
    better[60:80] = 1.0
    alike, steady = np.array([better, better, RIGHT]), np.array([better, better, np.r_[better[:-1], 1.0]])
    of = {
        name: {"strict": values} for name, values in (("grpo", np.array([RIGHT] * 3)), ("rloo", alike), ("ppo", steady))
    }
    sometimes, always = methods.differences(of)
    assert sometimes["by_seed"] == pytest.approx([0.2, 0.2, 0.0])
    assert sometimes["p_holm"] < 0.001
    assert sometimes["p_trainings"] == pytest.approx(0.1835, abs=1e-4)
    assert always["p_trainings"] < 0.001
    assert always["p_trainings_holm"] == pytest.approx(2 * always["p_trainings"])


def test_the_learning_rate_with_most_validation_questions_is_chosen_and_the_lower_of_two_equal_ones(
    tmp_path, monkeypatch
):
    """Training is left out: the accuracy of each rate is known."""
    right = {1e-4: 0.5, 2e-4: 0.6, 4e-4: 0.6}
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    trained = []

    def pipeline(targets, changes):
        rate = methods.configured(changes).settings_of("rloo").learning_rate
        trained.append((targets, rate))
        files.write_jsonl(tmp_path / "results/evaluate/rloo/checkpoints.jsonl", [{"flexible_accuracy": right[rate]}])

    monkeypatch.setattr(methods, "pipeline", pipeline)
    reached = methods.search("rloo", methods.arguments(["--search", "2", "0.5", "1", "--seeds", "43"]))
    assert reached == right
    assert trained == [(["results/evaluate/rloo/metrics.json"], rate) for rate in (4e-4, 1e-4, 2e-4)]
    assert methods.best(reached) == 2e-4


def test_a_method_is_a_variant_of_its_own_name_with_its_own_learning_rate():
    options = methods.arguments(["--methods", "grpo", "rloo", "--rate", "rloo=1e-4", "--set", "train.epsilon=0.1"])
    of = {name: load(ROOT / "params.yaml", dict(map(parse_override, methods.settings(name, options))))
          for name in options.methods}  # fmt: skip
    assert (of["rloo"].variant_method("rloo"), of["rloo"].train.learning_rate, of["rloo"].train.epsilon) == (
        "rloo", 1e-4, 0.1,
    )  # fmt: skip
    assert (of["grpo"].train.learning_rate, of["grpo"].variants["grpo"].max_steps) == (2e-4, 250)
