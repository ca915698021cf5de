"""The colours of the report's charts and of MLflow's runs, legible on white and on black.

Most are from Paul Tol's colour-blind safe schemes (https://sronpersonalpages.nl/~pault/).
"""

BASE = "#888888"
VARIANTS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#bbbbbb")
"""Of the variants, in the order of the configuration."""

MODELS = (BASE, *VARIANTS)
EXTRACTIONS = ("#c0458c", "#888888")
"""Of strict and flexible; different from the first variants' colours, as both are in the same figure."""

CHANGES = ("#ddaa33", "#3a8fb7", "#8a6fb0")
"""Of format, answer and both."""

TIME = ("#3a8fb7", "#aa3377", "#ddaa33", "#999999")
"""Of the parts of a run's time: generate, score, update, rest."""
