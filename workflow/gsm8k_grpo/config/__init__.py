"""The configuration: a recipe, params.yaml and overrides, merged and checked before any work.

Every key is a field of a class in `sections`, documented there; `params.load` reads the configuration.  May import
`gsm8k`, `files` and `records`.
"""
