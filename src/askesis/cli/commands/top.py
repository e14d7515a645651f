"""askesis top"""

from __future__ import annotations

import time
from dataclasses import asdict

from askesis.cli import output
from askesis.errors import RecipeError
from askesis.training.observe.top import render, take_snapshot
from askesis.training.rundir import find_run

__all__ = ["run"]


def run(name: str, *, every_s: float, once: bool, json_output: bool) -> None:
    """Show a run until it ends, or once."""
    if not 0.1 <= every_s <= 3600:
        raise RecipeError("an option is out of range", where="--every", got=every_s, expected="0.1 to 3600 seconds")
    found = find_run(name)
    shot = take_snapshot(found)
    if json_output:
        output.emit(asdict(shot))
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if once or not console.is_terminal or not shot.condition.goes_on:
        console.print(render(shot))
        return
    with Live(render(shot), console=console, auto_refresh=False) as live:
        while shot.condition.goes_on:
            time.sleep(every_s)
            shot = take_snapshot(found)
            live.update(render(shot), refresh=True)
