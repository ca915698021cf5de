"""The configuration: recipes, params.yaml and overrides, merged, typed and checked before any work.

Every key is a field of a class in `sections`; `params.load` is the way in.  May import `gsm8k` and `files`.
"""
