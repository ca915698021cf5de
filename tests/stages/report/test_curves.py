"""The report's curves over training: their points, axes and captions."""

import numpy as np
import pytest
from gsm8k_grpo.stages.report.figures import curves, figures
from markupsafe import escape
from report_page import cells, figures_of, page_of
from sample_results import history


def test_a_column_that_one_method_has_is_a_curve_of_its_variant_alone(make):
    results, _ = make()
    results.histories["full"]["ratio_clipped_share"] = 0.25
    panels = {panel.title: panel for figure in figures_of(results) for panel in figure.panels}
    assert "ratio_clipped_share" not in results.histories["short"]
    assert figures.HEALTH["ratio_clipped_share"] in panels


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


@pytest.mark.parametrize("logarithmic", [False, True])
def test_curves_are_thinned_and_keep_the_first_and_the_last_step(logarithmic):
    points = curves.thinned_points({"full": history(22_419, ["int"])}, "reward_int", logarithmic)
    assert 100 < len(points) <= curves.MAX_POINTS
    assert (points["step"].min(), points["step"].max()) == (1, 22_419)


def test_a_curve_leaves_out_the_steps_without_a_value():
    rows = history(10, ["int"])
    rows.loc[3, "reward_int"] = np.nan
    points = curves.thinned_points({"full": rows}, "reward_int", logarithmic=False)
    assert points["step"].tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert points["mean"].notna().all()


def test_the_moving_mean_is_centred_and_starts_with_the_first_value():
    values = np.arange(10.0)
    assert curves.moving_mean(values, 2).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7.5, 8]
    assert curves.moving_mean(values, 0).tolist() == values.tolist()


@pytest.mark.parametrize(("steps", "scale"), [(100, "linear"), (22_419, "log")])
def test_runs_of_very_different_length_share_a_logarithmic_axis(steps, scale):
    curve = curves.history_curve({"short": history(250, []), "full": history(steps, [])}, "entropy", "entropy")
    assert curve.to_dict()["layer"][0]["encoding"]["x"]["scale"]["type"] == scale
