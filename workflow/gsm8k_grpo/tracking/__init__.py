"""MLflow: one run per model, with parameters, data, curves, final figures and the report's figures.

MLflow holds copies of the results; nothing is read back.  May import `analysis`, `config`, `runtime` and `files`.
"""
