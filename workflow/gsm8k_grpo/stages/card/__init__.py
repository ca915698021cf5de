"""Stage `card`: the model card of a variant."""
