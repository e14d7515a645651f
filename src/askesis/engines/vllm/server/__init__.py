"""What runs inside a vLLM server. Its folder is put on that server's module path; it needs nothing else of ours."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER"]

FOLDER = Path(__file__).parent
"""For ``PYTHONPATH`` of the server."""
