"""MLflow: one run per model, with parameters, data, curves, final metrics and the report's figures.

MLflow holds copies of the results and nothing is read back from it.  May import `analysis`, `config`, `runtime`,
`files` and `records`.
"""
