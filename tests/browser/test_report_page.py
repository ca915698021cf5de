"""The report in a real browser: charts, answer browser, sorting, keyboard, screen readers, print, phones."""

import base64
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.files import read_json
from gsm8k_grpo.stages.report.figures.figures import figures
from gsm8k_grpo.stages.report.results import read_results
from gsm8k_grpo.stages.report.stage import render
from sample_results import HOSTILE, write_results
from screenshot import CHROMEDRIVER, CHROMIUM, browser, resize, show
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason="Debian's chromium and chromium-driver are not installed"
)

QUESTIONS = 1319  # as many as GSM8K's test split has
RIGHT = {"base": (200, 800), "short": (700, 700), "full": (1000, 1000)}
MAX_BYTES = 5_000_000
PATIENCE = 180  # seconds, for a check of the whole page on a busy machine
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def results(root, tmp_path_factory):
    """A folder with the results and their page: 1,319 questions, and everything that can be measured."""
    folder = tmp_path_factory.mktemp("page")
    settings = params.load(
        root / "params.yaml", {"compare.resamples": 200, "evaluate.probes": ["Calculate pi", HOSTILE], "seeds": [43]}
    )
    write_results(
        folder / "results", settings, RIGHT, steps={"full": 4000}, questions=QUESTIONS, samples=8, more_tests=True,
        energy=0.25,
    )  # fmt: skip
    read = read_results(folder / "results", settings)
    (folder / "report.html").write_text(render(read, figures(read), settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def page(results) -> Path:
    return results / "report.html"


DESKTOP, PHONE = (1280, 900, False), (390, 844, True)  # width, height, dark


@pytest.fixture(scope="module", params=[DESKTOP, PHONE], ids=["desktop", "phone, dark"])
def loaded(request, page):
    with browser(*request.param) as driver:
        yield driver


on_a_desktop = pytest.mark.parametrize("loaded", [DESKTOP], ids=["desktop"], indirect=True)


@pytest.fixture
def shown(loaded, page):
    """The page right after loading."""
    show(loaded, page)
    return loaded


def script(driver, body, *arguments):
    return driver.execute_script(body, *arguments)


def choose(driver, kind):
    script(driver, f"document.querySelector('#kinds input[value={kind}]').click()")


def articles(driver):
    return driver.find_elements("css selector", "#questions article")


# The page as a whole


def test_the_page_is_small(page):
    assert page.stat().st_size < MAX_BYTES


def test_the_console_is_silent_and_nothing_is_requested(shown):
    assert shown.get_log("browser") == []
    assert script(shown, "return performance.getEntriesByType('resource').map(entry => entry.name)") == []


@on_a_desktop
def test_no_text_of_a_model_becomes_markup(shown):
    choose(shown, "all")
    assert shown.title.startswith("GRPO on GSM8K")
    assert script(shown, "return document.images.length") == 0
    assert "document.title = 'broken'" in articles(shown)[0].text


@on_a_desktop
@pytest.mark.parametrize("width", [390, 768, 1280, 1600])
def test_the_page_does_not_scroll_sideways(loaded, page, width):
    resize(loaded, width, 900)
    show(loaded, page)
    script(loaded, "document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert script(loaded, "return document.documentElement.scrollWidth") == width


def test_the_first_screen_holds_answer_models_cost_and_limits(page):
    with browser(1280, 900) as driver:
        show(driver, page)
        for part in ("h1", "#accuracy-0 svg", "#cost + .scroll", ".limits"):
            assert script(driver, f"return document.querySelector('{part}').getBoundingClientRect().bottom") < 900, part


def test_charts_are_drawn_inside_their_column(shown):
    widths = script(
        shown,
        "return [...document.querySelectorAll('.chart')].map(c => [c.clientWidth, c.querySelector('svg').clientWidth])",
    )
    assert len(widths) == len(script(shown, "return JSON.parse(document.getElementById('specifications').textContent)"))
    assert all(200 < drawn <= column for column, drawn in widths)


@pytest.mark.parametrize(
    ("chart", "expected"),
    [
        ("rewards-0", r"variant (short|full)\n.*moving mean"),
        ("learning-0", r"variant (short|full)\nstep (0|50|100|250)\n"),
    ],
)
def test_curves_show_their_values_under_the_pointer(shown, chart, expected):
    curve = shown.find_element("css selector", f"#{chart} svg")
    script(shown, "arguments[0].scrollIntoView({block: 'center'})", curve)
    ActionChains(shown).move_to_element(curve).move_by_offset(3, 3).perform()
    tooltip = shown.find_element("id", "vg-tooltip-element").text.replace("\t", " ")
    assert re.search(expected, tooltip, re.DOTALL), tooltip


# The answer browser


def counts(driver):
    """The number of questions of each kind, as the radio buttons show it."""
    inputs = driver.find_elements("css selector", "#kinds input")
    kinds = [control.get_attribute("value") for control in inputs]
    labels = {kind: driver.find_element("id", f"kind-{kind}").text for kind in kinds}
    return {kind: int(re.sub(r"\D", "", label.rpartition(" ")[2])) for kind, label in labels.items()}


@on_a_desktop
@pytest.mark.parametrize("variant", ["short", "full"])
def test_kinds_of_change_are_those_of_the_comparison(shown, results, variant):
    Select(shown.find_element("id", "variant")).select_by_visible_text(variant)
    compared = read_json(results / "results/compare/comparison.json")
    row = next(r for r in compared if (r["a"], r["b"], r["metric"]) == ("base", variant, "strict_accuracy"))
    attributed = next(
        r for r in read_json(results / "results/compare/gains.json") if (r["a"], r["b"]) == ("base", variant)
    )
    numbers = counts(shown)
    assert (numbers["all"], numbers["fixed"], numbers["broken"]) == (QUESTIONS, row["fixed"], row["broken"])
    assert numbers["format"] == attributed["fixed"]["format"] + attributed["broken"]["format"]
    assert sum(numbers[kind] for kind in ("fixed", "broken", "right", "wrong")) == QUESTIONS


@on_a_desktop
def test_the_page_opens_with_newly_correct_questions_and_adds_more_on_demand(shown):
    assert len(articles(shown)) == 10
    assert all("full: newly correct" in article.text for article in articles(shown))
    script(shown, "document.getElementById('more').click()")
    assert len(articles(shown)) == 20
    assert "20 of them" in shown.find_element("id", "counted").text


@on_a_desktop
def test_only_questions_of_the_chosen_kind_are_shown(shown):
    choose(shown, "format")
    assert articles(shown)
    assert all("only the format changed" in article.text for article in articles(shown))
    choose(shown, "broken")
    assert articles(shown) == []
    assert shown.find_element("id", "counted").text.startswith("0 of 1,319 questions")
    assert not shown.find_element("id", "more").is_displayed()


@on_a_desktop
def test_search_finds_words_of_questions_and_of_answers(shown):
    choose(shown, "all")
    shown.find_element("id", "search").send_keys("What is 1300 AND 1?")
    (article,) = articles(shown)
    assert "gold 1301" in article.text
    shown.find_element("id", "search").clear()
    shown.find_element("id", "search").send_keys("#### 1302")  # base's wrong answer to the same question
    assert ["gold 1301" in article.text for article in articles(shown)] == [True]


@on_a_desktop
def test_other_tasks_have_their_answers(shown):
    choose(shown, "all")
    task = Select(shown.find_element("id", "task"))
    assert [option.text for option in task.options] == ["test", "test, plain", "longer"]
    assert "4 of 8 samples" in articles(shown)[0].text
    task.select_by_visible_text("longer")
    assert counts(shown)["all"] == QUESTIONS
    first = articles(shown)[0].text
    assert "longer-test-0" in first
    assert "of 8 samples" not in first
    task.select_by_visible_text("test, plain")
    assert "plain: <reasoning>" in articles(shown)[0].text


@on_a_desktop
def test_every_model_answers_side_by_side_and_differences_are_marked(shown):
    def texts():
        return [box.text for box in articles(shown)[0].find_elements("css selector", "pre")]

    plain = texts()
    assert len(plain) == 3
    assert script(shown, "return document.querySelectorAll('ins, del').length") == 0
    shown.find_element("id", "marked").click()
    assert texts()[0] == plain[0]
    kept = script(
        shown,
        "return [...document.querySelectorAll('#questions article:first-of-type pre')].map(pre => {"
        "const copy = pre.cloneNode(true); copy.querySelectorAll('del').forEach(gone => gone.remove());"
        "return copy.textContent.trim() })",
    )
    assert kept == [text.strip() for text in plain]
    removed = script(shown, "return document.querySelector('#questions del').textContent")
    assert removed
    assert removed in plain[0]


@on_a_desktop
def test_a_search_adds_only_a_few_of_its_questions_to_the_page(shown):
    """So that typing stays smooth: each letter filters 1,319 questions and lays the page out again."""
    choose(shown, "all")
    shown.find_element("id", "search").send_keys("what is")
    assert shown.find_element("id", "counted").text.startswith("1,319 of 1,319 questions")
    assert len(articles(shown)) == 10


# Tables


def column(driver, table, index):
    rows = driver.find_elements("css selector", f"{table} tbody tr")
    return [row.find_elements("css selector", "th, td")[index].text for row in rows]


@on_a_desktop
def test_tables_sort_by_number_both_ways(shown):
    heading = shown.find_element("css selector", "#compare th:nth-of-type(3)")
    button = heading.find_element("css selector", "button")
    script(shown, "arguments[0].click()", button)
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = [float(text.replace("\u2212", "-")) for text in column(shown, "#compare", 2)[:6]]
    assert rising == sorted(rising)
    assert rising[0] < 0 < rising[-1]
    script(shown, "arguments[0].click()", button)
    assert heading.get_attribute("aria-sort") == "descending"
    falling = [float(text.replace("\u2212", "-")) for text in column(shown, "#compare", 2)[:6]]
    assert falling == rising[::-1]


@on_a_desktop
def test_tables_sort_by_text_and_one_column_at_a_time(shown):
    headings = shown.find_elements("css selector", "#compare th button")
    script(shown, "arguments[0].click()", headings[2])
    script(shown, "arguments[0].click()", headings[1])
    names = column(shown, "#compare", 1)[:6]
    assert names == sorted(names)
    assert script(shown, "return document.querySelectorAll('#compare table:first-of-type [aria-sort]').length") == 1


# Keyboard, screen readers, paper


@on_a_desktop
def test_the_keyboard_reaches_everything(shown):
    script(
        shown,
        """
        document.querySelectorAll("details").forEach(details => { details.open = true });
        addEventListener("focusin", event => { event.target.dataset.reached = "yes" });
        """,
    )
    controls = "a, button, input, select, summary, [tabindex='0']"
    number = script(shown, "return document.querySelectorAll(arguments[0]).length", controls)
    ActionChains(shown).send_keys(Keys.TAB * (number + 5)).perform()
    missed = script(
        shown,
        """
        return [...document.querySelectorAll(arguments[0])]
          .filter(control => !control.dataset.reached && control.checkVisibility())
          .filter(control => !(control.type === "radio" && !control.checked))
          .map(control => control.outerHTML.slice(0, 80))
        """,
        controls,
    )
    assert number > 100
    assert missed == []


@on_a_desktop
def test_the_keyboard_selects_and_sorts(shown):
    selected = shown.find_element("css selector", "#kinds input:checked")
    selected.send_keys(Keys.ARROW_RIGHT)
    assert shown.find_element("css selector", "#kinds input:checked").get_attribute("value") == "broken"
    heading = shown.find_element("css selector", "#evaluate th")
    heading.find_element("css selector", "button").send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "ascending"


def test_axe_finds_no_serious_violation(shown):
    script(shown, "document.querySelectorAll('details').forEach(details => { details.open = true })")
    shown.find_element("id", "marked").click()
    script(shown, files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    shown.set_script_timeout(PATIENCE)
    report = shown.execute_async_script("axe.run().then(arguments[0])")
    assert len(report["passes"]) > 20
    serious = [violation for violation in report["violations"] if violation["impact"] in SERIOUS]
    assert serious == [], json.dumps(
        [(violation["id"], [node["html"][:200] for node in violation["nodes"][:3]]) for violation in serious], indent=1
    )


@on_a_desktop
def test_the_page_prints_unfolded_and_within_the_paper(shown):
    pdf = base64.b64decode(shown.print_page())
    assert pdf.startswith(b"%PDF")
    assert 8 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 60
    folded = script(shown, "return document.querySelectorAll('details:not([open])').length")
    assert folded > 3
    script(shown, "dispatchEvent(new Event('beforeprint'))")
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    resize(shown, 718, 1000)  # A4 between margins of 10 mm
    try:
        assert script(shown, "return document.querySelectorAll('details:not([open])').length") == 0
        assert script(shown, "return document.documentElement.scrollWidth") == 718
        assert not shown.find_element("css selector", "nav").is_displayed()
    finally:
        shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    script(shown, "dispatchEvent(new Event('afterprint'))")
    assert script(shown, "return document.querySelectorAll('details:not([open])').length") == folded
