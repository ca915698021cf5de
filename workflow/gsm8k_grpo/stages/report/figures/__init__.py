"""The figures of the report: Vega-Lite panels, drawn in the page and as PNG."""
