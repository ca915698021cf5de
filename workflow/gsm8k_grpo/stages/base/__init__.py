"""Stage `base`: the model that training starts from; with `model: scratch`, made and pretrained here."""
