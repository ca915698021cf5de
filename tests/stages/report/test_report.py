"""The report: its content for every kind of result and any variants, and that no text becomes markup."""

import html
import json
import re
import struct
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from gsm8k_grpo.analysis import formatting
from gsm8k_grpo.config import params
from gsm8k_grpo.runtime import git
from gsm8k_grpo.stages.report import stage as report_stage
from gsm8k_grpo.stages.report.figures import curves, figures
from gsm8k_grpo.stages.report.published_runs import FULL_RUN, PUBLISHED_RUNS
from gsm8k_grpo.stages.report.results import read_results
from gsm8k_grpo.tracking import mlflow_runs
from markupsafe import escape
from sample_results import HOSTILE, RIGHT, history, write_results

FAST = {"compare.resamples": 200, "evaluate.probes": ["Calculate pi", HOSTILE]}
CONTROL = {"variants.control": {"max_steps": 50, "rewards": {"set": "control", "weights": {"random": 1.0}}}}
PNGS = ["accuracy.png", "gains.png", "learning.png", "rewards.png", "timing.png", "training.png"]


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
            with mlflow_runs.running(mlflow_runs.Run(settings, model, model)) as run:
                run_ids[model] = run.id
        write_results(folder / "results", settings, run_ids=run_ids)
        report_stage.report(folder / "results", folder / "results" / "report", settings)
        yield folder, run_ids


@pytest.fixture(scope="module")
def page(finished):
    return (finished[0] / "results" / "report" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def make(tmp_path, root):
    """Writes results with some settings changed and reads them back, as the stage does."""

    def of(overrides={}, **kinds):
        settings = params.load(root / "params.yaml", FAST | overrides)
        write_results(tmp_path / "results", settings, **kinds)
        return read_results(tmp_path / "results", settings), settings

    return of


# The sentences follow from the comparison (more in test_summary.py)


def test_a_page_without_a_difference_claims_none(make):
    results, settings = make(right=dict.fromkeys(RIGHT, (10, 10)))
    text = re.sub(r"<script.*?</script>", "", page_of(results, settings), flags=re.DOTALL)
    assert "<h1>No significant difference in strict accuracy" in text
    assert not re.search(r"\b(rose|fell|raised|lowered)\b", text)
    assert not re.search(r"\bgain\b", text.replace("A gain in strict but not in flexible", ""))  # the glossary


# The page


def page_of(results, settings):
    return report_stage.render(results, figures_of(results), settings)


def figures_of(results):
    return figures.figures(results)


def test_the_answer_comes_first(page):
    title = between(page, "<h1>", "</h1>")
    assert "65.0 points (95\u00a0% CI " in title
    assert "10.0\u00a0%" in title
    assert "75.0\u00a0%" in title
    parts = (
        "summary",
        "accuracy-0",
        "cost",
        "limits",
        "compare",
        "gains",
        "evaluate",
        "completions",
        "probes",
        "train",
    )
    positions = [page.index(f'id="{part}"') for part in (*parts, "published", "configuration", "reproduction")]
    assert positions == sorted(positions)


def test_every_link_of_the_page_has_its_target(page):
    for target in re.findall(r'href="#(\w+)"', page):
        assert f'id="{target}"' in page, target


def between(page, start, end):
    return page.partition(start)[2].partition(end)[0]


def cells(page, after):
    """The texts of the first table after an id, row by row."""
    table = between(page.partition(f'id="{after}"')[2], "<table", "</table>")
    rows = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in table.split("<tr")[1:]]
    return [[" ".join(html.unescape(re.sub(r"<.*?>", "", cell)).split()) for cell in row] for row in rows]


def test_texts_of_data_and_models_are_escaped(page):
    """Probes, samples and the data's origin contain a script; test_report_page.py tests the answers."""
    escaped = str(escape(HOSTILE))
    assert HOSTILE not in page
    for part, following in [("probes", "train"), ("train", "published"), ("extract", "configuration")]:
        assert escaped in between(page, f'id="{part}"', f'id="{following}"'), part
    assert page.count("</script>") == page.count("<script") == 4


def test_the_charts_data_cannot_end_the_script(page):
    data = between(page, 'id="specifications">', "</script>")
    assert "accuracy-0" in json.loads(data)
    assert "<" not in data


def test_names_from_the_configuration_are_escaped(make):
    names = {"source": "hub", "model": HOSTILE, "download.hub.licence": HOSTILE, "tracking.experiment": HOSTILE}
    page = page_of(*make(names))
    assert HOSTILE not in page
    assert page.count("</script>") == 4


def test_the_page_loads_nothing(page):
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'\b(src|href)="(?!#|data:)', markup)
    assert "url(" not in markup
    assert "@import" not in markup


def test_the_published_runs_are_on_the_page_with_their_sources(page):
    for text in ("22,419", "3.0", "62,352", "18,142 MiB", "RTX 4090", "3.17", "correctness 1.67", "this run, full"):
        assert text in page
    for run in PUBLISHED_RUNS:
        assert str(escape(run.source)) in page


def test_the_published_full_run_is_as_its_log_says():
    full = next(run for run in PUBLISHED_RUNS if run.steps == 22_419)
    assert (full.source, full.epochs, full.seconds) == (FULL_RUN, 3.0, 62_352.0686)
    assert full.reward == pytest.approx(sum(full.rewards.values()))


def test_configuration_versions_and_runs_are_on_the_page(page, finished, settings):
    for run_id in finished[1].values():
        assert run_id in page
    assert f"<dt>torch</dt><dd>{version('torch')}</dd>" in page
    assert f"<dt>git commit</dt><dd>{html.escape(git.commit())}</dd>" in page
    configuration = between(between(page, 'id="configuration"', "</section>"), "<pre>", "</pre>")
    assert yaml.safe_load(html.unescape(configuration)) == settings.model_dump()


def test_any_variants_and_any_rewards(make):
    results, settings = make(CONTROL, right=RIGHT | {"control": (4, 25)}, kl=True)
    all_figures = figures_of(results)
    titles = {figure.name: [panel.title for panel in figure.panels] for figure in all_figures}
    assert "random" in titles["rewards"]
    assert "correctness" in titles["rewards"]
    assert figures.HEALTH["kl"] in titles["training"]
    page = report_stage.render(results, all_figures, settings)
    assert "control vs. base" in page
    assert between(page, "<h1>", "</h1>").startswith("Full training ")  # not the control


def test_a_column_that_one_method_has_is_a_curve_of_its_variant_alone(make):
    results, _ = make()
    results.histories["full"]["ratio_clipped_share"] = 0.25
    panels = {panel.title: panel for figure in figures_of(results) for panel in figure.panels}
    assert "ratio_clipped_share" not in results.histories["short"]
    assert figures.HEALTH["ratio_clipped_share"] in panels


def test_supervised_training_has_a_loss_and_no_rewards(make):
    results, settings = make(supervised=("short",))
    titles = {figure.name: [panel.title for panel in figure.panels] for figure in figures_of(results)}
    assert "loss" in titles["training"][0]
    page = page_of(results, settings)
    assert "SFT and GRPO on" in between(page, "<header", "</header>")
    assert [row[:2] for row in cells(page, "cost")[1:]] == [["short", "SFT"], ["full", "GRPO"]]
    results, settings = make(supervised=("short", "full"))
    assert "rewards" not in {figure.name for figure in figures_of(results)}
    assert 'id="training-samples"' not in page_of(results, settings)
    results, settings = make()
    assert 'id="training-samples"' in page_of(results, settings)


def test_accuracy_over_training_names_its_questions_and_has_every_checkpoint_in_numbers(make):
    results, settings = make(steps={"full": 300})
    page = page_of(results, settings)
    caption = next(figure for figure in figures_of(results) if figure.name == "learning").caption
    assert "40 questions of the validation split" in caption
    assert str(escape(caption)) in page
    assert [tuple(row[:3]) for row in cells(page, "learning")[1:]] == [
        ("base", "0", "0"), ("short", "50", "200"), ("short", "100", "400"),
        ("full", "50", "200"), ("full", "100", "400"), ("full", "250", "1,000"), ("full", "300", "1,200"),
    ]  # fmt: skip


def test_every_variants_accuracy_starts_at_base_and_has_a_band(make):
    results, _ = make(steps={"short": 240, "full": 600})
    panel = next(figure for figure in figures_of(results) if figure.name == "learning").panels[0]
    (points,) = panel.to_dict()["datasets"].values()
    lines = {name: [point for point in points if point["variant"] == name] for name in ("short", "full")}
    assert [point["step"] for point in lines["short"]] == [0, 50, 100, 240]
    assert [point["step"] for point in lines["full"]] == [0, 50, 100, 250, 600]
    for line in lines.values():
        assert [line[0]["share"], line[0]["low"], line[0]["high"]] == [
            results.evaluations["base"]["strict_accuracy"], *results.evaluations["base"]["strict_accuracy_ci95"],
        ]  # fmt: skip


@pytest.mark.parametrize(("start", "step"), [("short", 240), ("short@100", 100)])
def test_the_accuracy_of_a_variant_with_a_start_begins_where_the_start_was(make, start, step):
    results, _ = make({"variants.full.start": start}, steps={"short": 240, "full": 600})
    panel = next(figure for figure in figures_of(results) if figure.name == "learning").panels[0]
    (points,) = panel.to_dict()["datasets"].values()
    first = next(point for point in points if point["variant"] == "full")
    before = next(row for row in results.checkpoints["short"] if row["step"] == step)
    assert (first["step"], first["prompts_seen"], first["share"]) == (0, 0, before["strict_accuracy"])


def test_the_gain_of_a_variant_with_a_start_is_split_into_both_steps(make):
    right = {"base": (4, 10), "short": (14, 20), "full": (16, 20)}  # of 40 questions
    results, settings = make({"variants.full.start": "short"}, right=right)
    page = html.unescape(page_of(results, settings)).replace("\xa0", " ")
    of_strict = "of its +30.0 points of strict accuracy over base, +25.0 came with short and +5.0 with its own training"
    of_flexible = "of its +25.0 points of flexible accuracy over base, +25.0 came with short and 0.0 with its own"
    assert page.count(of_strict) == 2  # on the first screen and with the differences
    assert page.count(of_flexible) == 1
    assert "Short and full training raised strict accuracy by 30.0 points" in page


def test_without_a_start_no_gain_is_split(page):
    assert "not from base" not in page


def test_without_a_validation_split_the_page_explains_why_there_is_no_accuracy_over_training(make):
    results, settings = make(validated=False)
    page = page_of(results, settings)
    assert "learning" not in {figure.name for figure in figures_of(results)}
    assert "extract.validation_rows is 0" in page
    assert 'id="learning' not in page


def test_what_was_not_measured_has_no_section(make):
    page = page_of(*make({"evaluate.probes": []}))
    for part in ("probes", "sampled", "prompts", "sets", "unanswerable", "continuations"):
        assert f'id="{part}"' not in page
    assert "one seed (42)" in page
    assert "GPU energy" not in page
    assert "Energy was not measured" in page


def test_what_else_was_measured_has_its_section(make):
    page = page_of(*make({"seeds": [43]}, samples=8, more_tests=True, energy=0.25))
    sampled = cells(page, "sampled")
    assert sampled[0][2:4] == ["mean@8", "pass@1"]
    assert sampled[1][:3] == ["base", "strict", "5.0 % (1.2 to 10.0)"]
    assert ["full", "8-shot", "40", "75.0 %"] in [[*row[:3], row[3][:6]] for row in cells(page, "prompts")]
    assert {row[1] for row in cells(page, "sets")[1:]} == {"test", "svamp"}
    assert cells(page, "seeds")[1] == ["short", "strict accuracy", "2", "37.5 %", "17.7", "42: 50.0 %, 43: 25.0 %"]
    assert cells(page, "overlap")[2] == ["svamp", "40", "0", "1", "13", "svamp-3"]
    cost = between(page, 'id="cost"', "</table>")
    assert "GPU energy" in cost
    assert "0.25 kWh" in cost


def test_unanswerable_questions_and_questions_known_by_heart_have_tables_of_their_own(make):
    page = page_of(*make(probed=True))
    assert cells(page, "unanswerable")[1:] == [
        ["base", "plus, unanswerable", "40", "90.0 % (76.9 to 96.0)", "37.5 % (24.2 to 53.0)"],
        ["short", "plus, unanswerable", "40", "50.0 % (35.2 to 64.8)", "50.0 % (35.2 to 64.8)"],
        ["full", "plus, unanswerable", "40", "25.0 % (14.2 to 40.2)", "25.0 % (14.2 to 40.2)"],
    ]
    known = cells(page, "continuations")
    assert known[0] == ["model", "set", "questions", "continued word for word", "ROUGE-L"]
    assert known[1][:3] == ["base", "test", "40"]
    assert [cell[:6] for cell in known[1][3:]] == ["10.0 %", "55.0 %"]
    for part in ("prompts", "sets"):
        assert f'id="{part}"' not in page


def test_differences_show_both_p_values_and_are_attributed_to_kinds(page):
    strict = {row[1]: row for row in cells(page, "compare") if row[0] == "strict"}
    assert strict["full vs. base"][4:8] == ["< 0.0001", "< 0.0001", "26", "0"]
    # base's last number is correct for 25 questions: of the 26 newly correct ones of full, 21 change only their format
    attributed = {row[0]: row for row in cells(page, "gains")}
    assert attributed["full vs. base"] == ["full vs. base", "+52.5", "0.0", "+12.5", "21", "0", "5", "0", "0", "0"]


def test_the_same_results_give_the_same_page(make):
    assert page_of(*make()) == page_of(*make())


# Its parts


def test_samples_are_thinned_from_first_to_last():
    samples = [{"step": step, "prompt": prompt} for step in range(1, 500, 50) for prompt in range(4)]
    picked = report_stage.thinned(samples)
    assert [row["step"] for row in picked] == [1, 101, 201, 251, 351, 451]
    assert {row["prompt"] for row in picked} == {0}
    assert report_stage.thinned(samples[:4]) == samples[:1]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_curves_are_thinned_and_keep_the_first_and_the_last_step(logarithmic):
    points = curves.thinned_points({"full": history(22_419, ["int"])}, "reward_int", logarithmic)
    assert 100 < len(points) <= curves.MAX_POINTS
    assert (points["step"].min(), points["step"].max()) == (1, 22_419)


def test_the_moving_mean_is_centred_and_starts_with_the_first_value():
    values = np.arange(10.0)
    assert curves.moving_mean(values, 2).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7.5, 8]
    assert curves.moving_mean(values, 0).tolist() == values.tolist()


@pytest.mark.parametrize(("steps", "scale"), [(100, "linear"), (22_419, "log")])
def test_runs_of_very_different_length_share_a_logarithmic_axis(steps, scale):
    curve = curves.history_curve({"short": history(250, []), "full": history(steps, [])}, "entropy", "entropy")
    assert curve.to_dict()["layer"][0]["encoding"]["x"]["scale"]["type"] == scale


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (formatting.points, 0.086, "+8.6"),
        (formatting.points, -0.106, "\u221210.6"),
        (formatting.points, -0.0001, "0.0"),
        (formatting.p_value, 0.00004, "< 0.0001"),
        (formatting.p_value, 0.0499, "0.0499"),
        (formatting.duration, 112.93, "112.9 s"),
        (formatting.duration, 3600, "60 min"),
        (formatting.duration, 62_352.0686, "17.3 h"),
        (formatting.energy, 1.254, "1.25 kWh"),
        (formatting.energy, 0.0124, "12 Wh"),
        (formatting.shown, [1.0, 0.5], "1.0, 0.5"),
        (formatting.shown, None, "null"),
        (formatting.shown, "cosine", "cosine"),
    ],
)
def test_values_are_formatted_for_readers(function, value, expected):
    assert function(value) == expected


# The stage


def test_figures_are_next_to_the_page_and_in_the_run_of_each_variant(finished, settings):
    folder, run_ids = finished
    written = folder / "results" / "report"
    assert sorted(path.name for path in written.iterdir()) == sorted([*PNGS, "report.html"])
    for name in PNGS:
        content = (written / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert min(struct.unpack(">II", content[16:24])) > 200  # width and height in pixels
    client = mlflow.MlflowClient(f"sqlite:///{folder}/tracking/mlflow.db")
    for variant in settings.variants:
        logged = client.list_artifacts(run_ids[variant], "report")
        assert sorted(Path(artifact.path).name for artifact in logged) == PNGS


# What GRPO could learn from


def test_a_run_with_enough_signal_has_only_its_share_on_the_first_screen(page):
    first = between(page, '<header id="summary">', "<details")
    assert 'class="note"' not in first
    share = between(first, '<p class="muted" id="no-signal">', "</p>")
    assert len(re.findall(r"\d+\.\d\u00a0% of (?:short|full)", html.unescape(share))) == 2
    assert 'id="signal"' not in page  # no answers were sampled


def test_low_signal_warnings_and_a_stop_are_on_the_first_screen_and_every_model_in_a_table(make):
    warning = {"step": 24, "kind": "no_signal", "text": "in 95 % of the last groups all rewards were equal"}
    shares = {"base": {"correctness": 0.0, "total": 0.05}, "short": {"correctness": 0.3, "total": 0.6}}
    page = page_of(
        *make(signal=shares | {"full": shares["short"]}, warnings={"short": [warning]}, stopped={"full": 100})
    )
    notes = [html.unescape(note) for note in re.findall(r'<p class="note">(.*?)</p>', page)]
    assert [note.partition(" ")[0] for note in notes] == ["On", "short,", "full"]
    assert "sampled answers of base differ" in notes[0]
    assert "step 24" in notes[1]
    assert "stopped after step 100 of 200" in notes[2]
    assert [row[0] for row in cells(page, "signal")[1:]] == ["base", "short", "full"]
    assert re.search(r'<tr>\s*<th scope="row">base</th>\s*<td class="number" data-sort="0.05">', page)


def test_a_curve_leaves_out_the_steps_without_a_value():
    rows = history(10, ["int"])
    rows.loc[3, "reward_int"] = np.nan
    points = curves.thinned_points({"full": rows}, "reward_int", logarithmic=False)
    assert points["step"].tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert points["mean"].notna().all()
