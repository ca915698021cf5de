"""The configuration: a recipe, params.yaml and overrides, merged, typed, and checked before any work starts.

Every key is a field of a class in `sections`; `params.load` gives the whole configuration.  May import `gsm8k`,
`files` and `records`.
"""
