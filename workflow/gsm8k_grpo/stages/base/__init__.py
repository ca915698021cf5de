"""Stage `base`: the model that training starts from; with `model: scratch` it is made and pretrained here.

Read `stage`, then `corpus` (the documents), `tokenizer`, `optimizers` and `pretraining` (the model and its training).
Imports no other stage.
"""
