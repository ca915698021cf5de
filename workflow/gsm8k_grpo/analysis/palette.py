"""The colours of the report's charts and of MLflow's runs, legible on white and on black.

Most are from Paul Tol's colour-blind safe schemes (https://sronpersonalpages.nl/~pault/).
"""

BASE = "#888888"
VARIANTS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#bbbbbb")
"""The colours of the variants, in the order of the configuration."""

MODELS = (BASE, *VARIANTS)
EXTRACTIONS = ("#c0458c", "#888888")
"""The colours of strict and flexible, which differ from those of the first variants in the same figure."""

CHANGES = ("#ddaa33", "#3a8fb7", "#8a6fb0")
"""The colours of format, answer and both."""

TIME = ("#3a8fb7", "#aa3377", "#ddaa33", "#999999")
"""The colours of the parts of a run's time: generate, score, update, rest."""
