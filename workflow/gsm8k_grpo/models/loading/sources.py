"""Where a model is: a base model, a model whose weights were all trained, or an adapter for a base."""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """Where a model is.

    Attributes:
        model: a folder, or a name on the hub.
        adapter: the folder of an adapter for it.
        base: if all weights were trained, the model that training started from, which has the same shape.
    """

    model: str
    adapter: str | None = None
    base: str | None = None

    def without_adapter(self) -> "Source":
        """The model that the adapter is for; without one, the model itself."""
        return replace(self, adapter=None)


def source(model: str, trained: Path | None) -> Source:
    """The base `model`, or with `trained` the model in that folder: all its weights, or an adapter for the base."""
    if trained is None:
        return Source(model)
    if (trained / "adapter_config.json").exists():
        return Source(model, adapter=str(trained))
    return Source(str(trained), base=model)
