"""The report: what it says of every kind of result, whatever the variants, and that no text can break out of it."""

import html
import json
import re
import struct
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from gsm8k_grpo import curves, figures, params, report, tracking
from gsm8k_grpo.published import FULL_RUN, RUNS
from markupsafe import escape
from sample_results import HOSTILE, RIGHT, answers, history, write_results

FAST = {"compare.resamples": 200, "evaluate.probes": ["Calculate pi", HOSTILE]}
CONTROL = {"variants.control": {"max_steps": 50, "rewards": {"set": "control", "weights": {"random": 1.0}}}}
PNGS = ["accuracy.png", "learning.png", "rewards.png", "training.png"]


@pytest.fixture(scope="module")
def settings(root):
    return params.load(root / "params.yaml", FAST)


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """A folder where the stage has run, and the ids of the MLflow runs."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        run_ids = {}
        for model in ["base", *settings.variants]:
            with tracking.running(tracking.Run(settings, model, model)) as run:
                run_ids[model] = run.id
        write_results(folder / "results", settings, run_ids=run_ids)
        report.report(folder / "results", folder / "results" / "report", settings)
        yield folder, run_ids


@pytest.fixture(scope="module")
def page(finished):
    return (finished[0] / "results" / "report" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def found(tmp_path, root):
    """Writes results with some settings changed and reads them back, as the stage does."""

    def make(overrides={}, **results):
        settings = params.load(root / "params.yaml", FAST | overrides)
        write_results(tmp_path / "results", settings, **results)
        return report.read(tmp_path / "results", settings), settings

    return make


# The words follow from the comparison (more in test_summary.py)


def test_a_page_without_a_difference_claims_none(found):
    results, settings = found(right=dict.fromkeys(RIGHT, (10, 10)))
    text = re.sub(r"<script>.*", "", page_of(results, settings), flags=re.DOTALL)
    assert "<h1>No significant difference in strict accuracy" in text
    assert not re.search(r"\b(rose|fell|gain)\b", text)


# What limits the answer


def notes_of(results, settings):
    return " ".join(report.notes(results, settings))


def test_generated_problems_and_a_small_model_are_said_to_be_no_gsm8k(found):
    said = notes_of(*found())
    assert "generated from templates in GSM8K's format; they are not GSM8K" in said
    assert "1,234 parameters" in said
    assert "can't solve the word problems of GSM8K" in said
    assert "one seed (42)" in said
    assert "subset" not in said


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("simple", "Every calculation has a second operand from 2 to 9 and a result of at most 20."),
        ("rich", "Every solution has 2 to 6 calculations with whole numbers and results of at most 1000."),
    ],
)
def test_the_numbers_of_generated_problems_are_those_of_their_set(found, name, numbers):
    assert numbers in notes_of(*found({"download.generated.problems": name}))


def test_a_small_model_on_other_problems_is_said_to_learn_the_format_at_most(found):
    said = notes_of(*found({"source": "local", "path": "problems"}))
    assert "come from a local folder" in said
    assert "format was 10.0 % before and is 50.0 % (short) and 75.0 % (full) after" in said


def test_a_hub_source_and_a_model_from_elsewhere_are_named(found):
    results, settings = found({"source": "hub", "model": "Qwen/Qwen2.5-3B"})
    assert f"from the hub: {HOSTILE} at revision r1" in notes_of(results, settings)
    assert "from scratch" not in notes_of(results, settings)
    assert report.describe_model(results, settings) == "Qwen/Qwen2.5-3B, 1,234 parameters"


def test_subsets_are_stated(found):
    results, settings = found()
    results.training["short"]["prompts"] = results.training["full"]["prompts"] = 16
    results.evaluations["base"]["n_available"] = 1319
    said = notes_of(results, settings)
    assert said.count("Training used a subset: 16 of the 32 problems") == 1
    assert "Evaluation asked a subset: the first 40 of 1,319 test questions." in said


# The page


def page_of(results, settings):
    return report.render(results, drawn_of(results), settings)


def drawn_of(results):
    return figures.figures(results.evaluations, results.checkpoints, results.histories)


def test_the_answer_comes_first(page):
    assert (
        "<h1>Strict accuracy rose significantly from 10.0\u00a0% to 50.0\u00a0% (short) and 75.0\u00a0% (full).</h1>"
        in page
    )
    positions = [page.index(f'id="{part}"') for part in ("compare", "evaluate", "completions", "probes", "train")]
    assert page.index("<h1>") < positions[0]
    assert positions == sorted(positions)


def between(page, start, end):
    return page.partition(start)[2].partition(end)[0]


def test_texts_of_data_and_models_are_escaped(page):
    """Questions, completions, probes, samples and the data's origin hold a script that must not end up as one."""
    escaped = str(escape(HOSTILE))
    assert HOSTILE not in page
    parts = ["completions", "probes", "train", "published"]
    for part, following in pairwise(parts):
        assert escaped in between(page, f'id="{part}"', f'id="{following}"'), part
    assert escaped in between(page, 'id="configuration"', "</details>")
    assert page.count(escaped) > 20
    assert page.count("</script>") == page.count("<script>") == 2


def test_the_charts_data_can_end_no_script(page):
    data = between(page, "const specifications = ", ";\n")
    assert "accuracy-0" in json.loads(data)
    assert "<" not in data


def test_names_from_the_configuration_are_escaped(found):
    names = {"source": "hub", "model": HOSTILE, "download.hub.licence": HOSTILE, "tracking.experiment": HOSTILE}
    page = page_of(*found(names))
    assert HOSTILE not in page
    assert page.count("</script>") == 2


def test_nothing_on_the_page_comes_from_elsewhere(page):
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'\b(src|href)="(?!#|data:)', markup)
    assert "url(" not in markup
    assert "@import" not in markup


def test_the_published_figures_stand_beside_this_run_with_their_sources(page):
    for text in ("22,419", "3.0", "62,352", "18,142 MiB", "RTX 4090", "3.17", "correctness 1.67", "this run, full"):
        assert text in page
    for run in RUNS:
        assert str(escape(run.source)) in page


def test_the_published_full_run_is_as_its_log_says():
    full = next(run for run in RUNS if run.steps == 22_419)
    assert (full.source, full.epochs, full.seconds) == (FULL_RUN, 3.0, 62_352.0686)
    assert full.reward == pytest.approx(sum(full.rewards.values()))


def test_configuration_versions_and_runs_stand_on_the_page(page, finished, settings):
    for run_id in finished[1].values():
        assert run_id in page
    assert f"<dt>torch</dt><dd>{version('torch')}</dd>" in page
    assert "<dt>git commit</dt><dd>unknown, when" in page  # the stage ran outside a repository
    shown = re.search(r"The whole configuration.*?<pre>(.*?)</pre>", page, re.DOTALL)[1]
    assert yaml.safe_load(html.unescape(shown)) == settings.model_dump()


def test_any_variants_and_any_rewards(found):
    results, settings = found(CONTROL, right=RIGHT | {"control": (4, 25)}, kl=True)
    drawn = drawn_of(results)
    titles = {figure.name: [panel.title for panel in figure.panels] for figure in drawn}
    assert "random" in titles["rewards"]
    assert "correctness" in titles["rewards"]
    assert figures.HEALTH["kl"] in titles["training"]
    page = report.render(results, drawn, settings)
    assert "control against base" in page
    assert "; no significant difference at 10.0\u00a0% (control).</h1>" in page


def test_accuracy_over_training_names_its_questions_and_has_every_checkpoint_in_numbers(found):
    results, settings = found(steps={"full": 300})
    page = page_of(results, settings)
    assert "the 40 questions of the validation split, which are not trained on; the test split was not used" in page
    table = re.search(r'id="learning".*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    rows = [re.sub(r"<.*?>|\s+", " ", row).split() for row in table.split("</tr>")[:-1]]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("base", "0", "0"), ("short", "50", "200"), ("short", "100", "400"),
        ("full", "50", "200"), ("full", "100", "400"), ("full", "250", "1,000"), ("full", "300", "1,200"),
    ]  # fmt: skip


def test_every_variants_accuracy_starts_at_base_and_has_a_band(found):
    results, _ = found(steps={"short": 240, "full": 600})
    panel = next(figure for figure in drawn_of(results) if figure.name == "learning").panels[0]
    (points,) = panel.to_dict()["datasets"].values()
    lines = {name: [point for point in points if point["variant"] == name] for name in ("short", "full")}
    assert [point["step"] for point in lines["short"]] == [0, 50, 100, 240]
    assert [point["step"] for point in lines["full"]] == [0, 50, 100, 250, 600]
    for line in lines.values():
        assert [line[0]["share"], line[0]["low"], line[0]["high"]] == [
            results.evaluations["base"]["strict_accuracy"], *results.evaluations["base"]["strict_accuracy_ci95"],
        ]  # fmt: skip


def test_without_a_validation_split_the_page_says_why_there_is_no_accuracy_over_training(found):
    results, settings = found(validated=False)
    page = page_of(results, settings)
    assert [figure.name for figure in drawn_of(results)] == ["accuracy", "rewards", "training"]
    assert "No accuracy over training: it is measured on the validation split, which is empty" in page
    assert 'id="learning' not in page


def test_no_probes_no_section(found):
    results, settings = found({"evaluate.probes": []})
    assert 'id="probes"' not in page_of(results, settings)


def test_the_same_results_give_the_same_page(found):
    assert page_of(*found()) == page_of(*found())


# Its parts


def test_questions_are_grouped_by_who_is_right_and_shown_in_their_order():
    base, short = answers(4, 4), answers(10, 10)
    base[20]["strict_correct"] = True
    fixed, broken, wrong, right = report.patterns({"base": base, "short": short})
    assert fixed.right == {"base": False, "short": True}
    assert (fixed.count, broken.count, wrong.count, right.count) == (6, 1, 29, 4)
    assert [question["base"]["id"] for question in fixed.questions] == ["test-4", "test-5", "test-6", "test-7"]


def test_samples_are_thinned_from_first_to_last():
    samples = [{"step": step, "prompt": prompt} for step in range(1, 500, 50) for prompt in range(4)]
    picked = report.thinned(samples)
    assert [row["step"] for row in picked] == [1, 101, 201, 251, 351, 451]
    assert {row["prompt"] for row in picked} == {0}
    assert report.thinned(samples[:4]) == samples[:1]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_curves_are_thinned_and_keep_the_first_and_the_last_step(logarithmic):
    points = curves._points({"full": history(22_419, ["int"])}, "reward_int", logarithmic)
    assert 100 < len(points) <= curves.MOST_POINTS
    assert (points["step"].min(), points["step"].max()) == (1, 22_419)


def test_the_moving_mean_is_centred_and_starts_with_the_first_value():
    values = np.arange(10.0)
    assert curves._moving_mean(values, 2).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7.5, 8]
    assert curves._moving_mean(values, 0).tolist() == values.tolist()


@pytest.mark.parametrize(("steps", "scale"), [(100, "linear"), (22_419, "log")])
def test_runs_of_very_different_length_share_a_logarithmic_axis(steps, scale):
    curve = curves.of_history({"short": history(250, []), "full": history(steps, [])}, "entropy", "entropy")
    assert curve.to_dict()["layer"][0]["encoding"]["x"]["scale"]["type"] == scale


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (report.points, 0.086, "+8.6"),
        (report.points, -0.106, "\u221210.6"),
        (report.points, -0.0001, "0.0"),
        (report.p_value, 0.00004, "< 0.0001"),
        (report.p_value, 0.0499, "0.0499"),
        (report.duration, 112.93, "112.9 s"),
        (report.duration, 3600, "60 min"),
        (report.duration, 62_352.0686, "17.3 h"),
        (report.shown, [1.0, 0.5], "1.0, 0.5"),
        (report.shown, None, "null"),
        (report.shown, "cosine", "cosine"),
    ],
)
def test_values_are_written_for_a_reader(function, value, expected):
    assert function(value) == expected


# The stage


def test_figures_stand_beside_the_page_and_on_the_run_of_each_variant(finished, settings):
    folder, run_ids = finished
    written = folder / "results" / "report"
    assert sorted(path.name for path in written.iterdir()) == sorted([*PNGS, "report.html"])
    for name in PNGS:
        content = (written / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert min(struct.unpack(">II", content[16:24])) > 300  # width and height in pixels
    client = mlflow.MlflowClient(f"sqlite:///{folder}/tracking/mlflow.db")
    for variant in settings.variants:
        logged = client.list_artifacts(run_ids[variant], "report")
        assert sorted(Path(artifact.path).name for artifact in logged) == PNGS
