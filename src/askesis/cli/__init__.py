"""The command ``askesis``. Nothing heavy is imported before a command needs it."""

from askesis.cli.app import app, main

__all__ = ["app", "main"]
