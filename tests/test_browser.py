"""The report in a real browser: charts, escaping, no network, and no sideways scrolling on a phone."""

import re

import pytest
from gsm8k_grpo import params
from gsm8k_grpo.figures import figures
from gsm8k_grpo.report import read, render
from sample_results import HOSTILE, write_results
from screenshot import CHROMEDRIVER, CHROMIUM, browser, show
from selenium.webdriver import ActionChains

pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason="Debian's chromium and chromium-driver are not installed"
)


@pytest.fixture(scope="module")
def page(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    settings = params.load(
        root / "params.yaml", {"compare.resamples": 200, "evaluate.probes": ["Calculate pi", HOSTILE]}
    )
    write_results(folder / "results", settings, steps={"full": 4000})
    found = read(folder / "results", settings)
    path = folder / "report.html"
    path.write_text(
        render(found, figures(found.evaluations, found.checkpoints, found.histories), settings), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module", params=[(1280, 900, False), (390, 844, True)], ids=["desktop", "phone, dark"])
def shown(request, page):
    with browser(*request.param) as driver:
        show(driver, page)
        yield driver


def test_charts_are_drawn_inside_their_column(shown):
    widths = shown.execute_script(
        "return [...document.querySelectorAll('.chart')].map(c => [c.clientWidth, c.querySelector('svg').clientWidth])"
    )
    assert len(widths) == 15
    assert all(200 < drawn <= place for place, drawn in widths)


def test_the_console_is_silent(shown):
    assert shown.get_log("browser") == []


def test_nothing_is_requested(shown):
    assert shown.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


def test_the_page_does_not_scroll_sideways(shown):
    width = shown.execute_script("return document.documentElement.scrollWidth")
    assert width in (1280, 390)


def test_wide_tables_scroll_in_their_box(shown):
    boxes = shown.execute_script(
        "return [...document.querySelectorAll('.scroll')].map(b => getComputedStyle(b).overflowX)"
    )
    assert boxes
    assert set(boxes) == {"auto"}


def test_no_text_of_a_model_becomes_markup(shown):
    assert shown.title.startswith("GRPO on GSM8K")
    assert shown.execute_script("return document.images.length") == 0
    assert "document.title = 'broken'" in shown.find_element("css selector", "#completions ~ details pre").text


def test_groups_of_answers_open(shown):
    groups = shown.find_elements("css selector", "#completions ~ details")
    assert groups[0].get_attribute("open")
    assert not groups[1].get_attribute("open")
    shown.execute_script("arguments[0].querySelector('summary').click()", groups[1])
    assert groups[1].find_element("css selector", "pre").is_displayed()


@pytest.mark.parametrize(
    ("chart", "told"),
    [
        ("rewards-0", r"variant (short|full)\n.*moving mean"),
        ("learning-0", r"variant (short|full)\nstep (0|50|100|250)\n"),
    ],
)
def test_curves_tell_their_values_under_the_pointer(shown, chart, told):
    curve = shown.find_element("css selector", f"#{chart} svg")
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", curve)
    ActionChains(shown).move_to_element(curve).move_by_offset(3, 3).perform()
    tooltip = shown.find_element("id", "vg-tooltip-element").text.replace("\t", " ")
    assert re.search(told, tooltip, re.DOTALL), tooltip
