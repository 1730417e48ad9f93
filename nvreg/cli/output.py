"""What commands print: markdown that a terminal shows laid out, and a file or pipe gets as it is."""

import typer


def print_markdown(page: str) -> None:
    """Print a page to standard output."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(page))
    else:
        typer.echo(page)
