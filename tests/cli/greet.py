"""A command that nvreg has not."""

from nvreg.cli.options import say
from nvreg.errors import UserError


def greet(name: str) -> None:
    """Say hello."""
    if name == "nobody":
        raise UserError("expected somebody, got nobody")
    say(f"Hello, {name}.")
