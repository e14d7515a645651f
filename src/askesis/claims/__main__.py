"""``python -m askesis.claims [RESULT.json ...]``: publish results, and build ``docs/claims.md`` from all published."""

from __future__ import annotations

import sys
from pathlib import Path

from askesis.claims.page import publish

if __name__ == "__main__":
    print(publish([Path(argument) for argument in sys.argv[1:]], Path("docs")))
