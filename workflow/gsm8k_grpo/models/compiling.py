"""Compile the layers of a model one by one: they share their code, so that one compilation serves all of them."""

from torch import nn
from transformers import PreTrainedModel


def compile_layers(network: PreTrainedModel) -> None:
    """Compile the layers of the model's decoder in place, for inputs of any length."""
    for layer in layers_of(network.get_decoder()):
        layer.compile(dynamic=True)


def layers_of(decoder: PreTrainedModel) -> nn.ModuleList:
    """The layers of a decoder, under whatever name its architecture gives them (`layers`, `h`)."""
    layers = decoder.config.num_hidden_layers
    return next(module for module in decoder.modules() if isinstance(module, nn.ModuleList) and len(module) == layers)
