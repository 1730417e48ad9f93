"""``nvreg architectures``."""

import typer


def architectures() -> None:
    """Print which architectures are converted, by layout, and which are refused, and why."""
    from nvreg.models.registry import architectures as known

    for heading, table in zip(("layout", "refused because"), known(), strict=True):
        typer.echo(f"| {heading} | model types |\n|---|---|")
        for name, model_types in table.items():
            typer.echo(f"| {name} | {', '.join(sorted(model_types))} |")
        typer.echo()
