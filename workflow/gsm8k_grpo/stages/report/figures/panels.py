"""Parts of panels that several figures have in common."""

import altair as alt

Panel = alt.LayerChart | alt.FacetChart
"""A Vega-Lite chart with its title.  The functions here return LayerCharts; the union is altair's type of a layer."""


def share_tooltip(title: str) -> list[alt.Tooltip]:
    """Tooltip lines of a share and its interval (`low` and `high`)."""
    return [
        alt.Tooltip("share:Q", format=".1%", title=title),
        alt.Tooltip("low:Q", format=".1%", title="95 % interval from"),
        alt.Tooltip("high:Q", format=".1%", title="to"),
    ]


def prompts_tooltip() -> alt.Tooltip:
    return alt.Tooltip("prompts_seen:Q", format=",", title="prompts seen")


def line_with_band(rows: alt.Chart, tooltip: list[alt.Tooltip], *parameters: alt.Parameter) -> Panel:
    """A chart whose rows have `share`, `low` and `high` as a line with points, and the interval as a band."""
    share = alt.Y("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4), scale=alt.Scale(zero=True))
    return alt.layer(
        rows.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        rows.mark_line(strokeWidth=2).encode(y=share),
        rows.mark_point(filled=True, size=60, opacity=1).encode(y=share, tooltip=tooltip).add_params(*parameters),
    )
