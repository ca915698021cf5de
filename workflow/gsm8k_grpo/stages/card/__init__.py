"""Stage `card`: the model card of a variant, next to its weights.

May use the definitions of the stages before it.
"""
