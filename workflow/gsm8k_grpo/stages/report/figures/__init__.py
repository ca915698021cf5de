"""The figures of the report: Vega-Lite specifications, drawn in the page and as PNG."""
