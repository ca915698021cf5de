"""The sections, sentences and tables that the report has for each kind of result and any variants."""

import html
import re

from gsm8k_grpo.stages.report import stage as report_stage
from gsm8k_grpo.stages.report.figures import figures
from report_page import between, cells, figures_of, page_of
from sample_results import RIGHT

CONTROL = {"variants.control": {"max_steps": 50, "rewards": {"set": "control", "weights": {"random": 1.0}}}}


def test_a_page_without_a_difference_claims_none(make):
    results, settings = make(right=dict.fromkeys(RIGHT, (10, 10)))
    text = re.sub(r"<script.*?</script>", "", page_of(results, settings), flags=re.DOTALL)
    assert "<h1>No significant difference in strict accuracy" in text
    assert not re.search(r"\b(rose|fell|raised|lowered)\b", text)
    assert not re.search(r"\bgain\b", text.replace("A gain in strict but not in flexible", ""))  # the glossary


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


def test_the_gain_of_a_variant_with_a_start_is_split_into_both_steps(make):
    right = {"base": (4, 10), "short": (14, 20), "full": (16, 20)}  # of 40 questions
    results, settings = make({"variants.full.start": "short"}, right=right)
    page = html.unescape(page_of(results, settings)).replace("\xa0", " ")
    of_strict = "of its +30.0 points of strict accuracy over base, +25.0 came with short and +5.0 with its own training"
    of_flexible = "of its +25.0 points of flexible accuracy over base, +25.0 came with short and 0.0 with its own"
    assert page.count(of_strict) == 2  # on the first screen and with the differences
    assert page.count(of_flexible) == 1
    assert "Short and full training raised strict accuracy by 30.0 points" in page


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
