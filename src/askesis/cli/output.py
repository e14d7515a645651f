"""What commands print, and how they fail: messages for people, one JSON object for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from askesis.errors import AskesisError, RecipeError

__all__ = ["EXIT_FAILED", "EXIT_USAGE", "complain", "emit", "percent", "plain", "run_guarded", "table"]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def emit(value: Mapping[str, Any]) -> None:
    """Print ``value`` as one line of JSON, the last of standard output."""
    print(json.dumps(value, default=str, ensure_ascii=True), flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """A table for people; what a model or a file wrote is shown as plain text."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        shown.add_row(*(Text("" if cell is None else plain(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 160))
    console.print(shown)


def plain(text: object) -> str:
    """``text`` without control characters, which a terminal would obey; line breaks and tabs stay."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in str(text))


def percent(value: float | None) -> str:
    """A share as text."""
    return "–" if value is None else f"{100 * value:.1f} %"


def run_guarded(command: Callable[[], object], *, json_output: bool) -> None:
    """Run a command and leave the process with its exit code.

    0 done; 1 it failed; 2 the call, the recipe or a name was wrong; 130 interrupted.
    """
    import typer

    # The command-line library is bundled with typer in some releases and a package of its own in others; this is its
    # error for calls that it does not understand, wherever it lives.
    usage_error = typer.BadParameter.__mro__[1]
    try:
        code = command()
        sys.exit(code if isinstance(code, int) else 0)
    except AskesisError as error:
        complain(error, json_output=json_output)
        sys.exit(EXIT_USAGE if isinstance(error, RecipeError) else EXIT_FAILED)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except Exception as error:
        if not isinstance(error, usage_error):
            raise
        error.show()  # type: ignore[attr-defined]
        if json_output:
            emit({"error": {"type": "UsageError", "what": error.format_message()}})  # type: ignore[attr-defined]
        sys.exit(EXIT_USAGE)


def complain(error: AskesisError, *, json_output: bool) -> None:
    """Show an error: as text on standard error, and as the last line of standard output if JSON is asked for."""
    kind = type(error).__name__
    print(f"{kind}: {error}", file=sys.stderr)
    if json_output:
        emit(
            {
                "error": {
                    "type": kind,
                    "what": error.what,
                    "where": error.where,
                    "got": error.got,
                    "expected": error.expected,
                    "next": error.next_step,
                }
            }
        )
