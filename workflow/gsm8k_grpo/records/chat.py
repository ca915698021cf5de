"""The turns of a chat, as chat templates take them."""

from typing import TypedDict


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
