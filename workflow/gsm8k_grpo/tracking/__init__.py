"""MLflow: one run per model, with its parameters, data, curves, final metrics and the report's figures.

MLflow holds copies of the results, and the pipeline reads nothing back.  May import `analysis`, `config`, `runtime`,
`files` and `records`.
"""
