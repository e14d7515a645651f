"""The quickstart's promise, checked: at least 25 points of held-out accuracy on every seed, with disjoint intervals.

Runs ``askesis train recipes/quickstart.toml`` in a process of its own for each seed and leaves with 1 if one fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MIN_GAIN = 0.25
MAX_SECONDS = 180.0


def run(recipe: Path, seed: int, overrides: list[str]) -> dict[str, object]:
    """One training run in a fresh folder; its closing JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "askesis", "train", str(recipe), f"run.seed={seed}", f"run.dir={folder}/run"]
        done = subprocess.run([*command, *overrides, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    """Print one row per seed; exit code 1 when the promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/quickstart.toml"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        row = run(options.recipe, seed, options.overrides)
        gain = row["accuracy_after"] - row["accuracy_before"]  # type: ignore[operator]
        disjoint = row["ci_after"][0] > row["ci_before"][1]  # type: ignore[index]
        holds = gain >= MIN_GAIN and disjoint and row["wall_s"] < MAX_SECONDS  # type: ignore[operator]
        rows.append({"seed": seed, "gain": gain, "holds": holds, **row})
        print(
            f"seed {seed}: {100 * row['accuracy_before']:5.1f} % -> {100 * row['accuracy_after']:5.1f} %  "  # type: ignore[operator]
            f"n={row['n']}  {row['wall_s']:.0f} s  {row['peak_rss_mb']:.0f} MB  {'holds' if holds else 'FAILS'}",
            flush=True,
        )
    if options.json:
        print(json.dumps({"claim": "quickstart", "holds": all(r["holds"] for r in rows), "seeds": rows}))
    return 0 if all(r["holds"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
