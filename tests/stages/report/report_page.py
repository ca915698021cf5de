"""Renders the report, and reads parts of its page."""

import html
import re

from gsm8k_grpo.stages.report import stage as report_stage
from gsm8k_grpo.stages.report.figures import figures


def page_of(results, settings):
    return report_stage.render(results, figures_of(results), settings)


def figures_of(results):
    return figures.figures(results)


def between(page, start, end):
    return page.partition(start)[2].partition(end)[0]


def cells(page, after):
    """The texts of the first table after an id, row by row."""
    table = between(page.partition(f'id="{after}"')[2], "<table", "</table>")
    rows = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in table.split("<tr")[1:]]
    return [[" ".join(html.unescape(re.sub(r"<.*?>", "", cell)).split()) for cell in row] for row in rows]
