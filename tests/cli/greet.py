"""A command that nvreg has not."""

import typer

from nvreg.errors import UserError


def greet(name: str) -> None:
    """Say hello."""
    if name == "nobody":
        raise UserError("expected somebody, got nobody")
    typer.echo(f"Hello, {name}.")
