"""Stage `base`: the model that training starts from; with `model: scratch` the stage makes and pretrains it.

Read `stage`, then `corpus` (the documents), `tokenizer`, `optimizers` and `pretraining` (the model and its training).
Imports no other stage.
"""
