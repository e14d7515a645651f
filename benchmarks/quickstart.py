"""The quickstart's promise, checked: at least 25 points of held-out accuracy on every seed, with disjoint intervals.

Runs ``askesis train recipes/quickstart.toml`` in a process of its own for each seed and leaves with 1 if one fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from askesis.store import Store

MIN_GAIN = 0.25
MAX_SECONDS = 180.0


def run(recipe: Path, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """One training run in a fresh folder: its closing JSON object, with the curves of accuracy and answer length."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        command = [sys.executable, "-m", "askesis", "train", str(recipe), f"run.seed={seed}", f"run.dir={place}"]
        done = subprocess.run([*command, *overrides, "--json"], stdout=subprocess.PIPE, text=True, check=True)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        with Store.open(place / "store.db", read_only=True) as store:
            metrics = store.metrics(result["run"])
    return {"seed": seed, **result, "curves": {name: metrics[name] for name in ("accuracy", "response_tokens")}}


def judge(row: dict[str, Any]) -> dict[str, Any]:
    """The gain, and whether the promise holds: gain, disjoint intervals, time."""
    gain = row["accuracy_after"] - row["accuracy_before"]
    disjoint = row["ci_after"][0] > row["ci_before"][1]
    holds = gain >= MIN_GAIN and disjoint and row["n"] >= 500 and row["wall_s"] < MAX_SECONDS
    return {**row, "gain": gain, "holds": holds}


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Held-out accuracy before and after, and what the policy does meanwhile, one line per seed."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "askesis"
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
    for place, row in enumerate(rows):
        for x, label in ((0, "before"), (1, "after")):
            value, (low, high) = row[f"accuracy_{label}"], row[f"ci_{label}"]
            at = x + 0.12 * (place - (len(rows) - 1) / 2)
            errors = [[100 * (value - low)], [100 * (high - value)]]
            left.errorbar(at, 100 * value, yerr=errors, fmt="o", capsize=3, color=f"C{place}")
        for axes, name, scale in ((middle, "accuracy", 100), (right, "response_tokens", 1)):
            axes.plot(*zip(*((s, scale * v) for s, v in row["curves"][name]), strict=True), color=f"C{place}")
    left.set(title="held-out accuracy, % (n = 500)", xticks=(0, 1), xticklabels=("before", "after"), ylim=(0, 103))
    left.set_xlim(-0.5, 1.5)
    middle.set(title="training accuracy, %", xlabel="step", ylim=(0, 103))
    right.set(title="tokens per answer", xlabel="step", ylim=(0, None))
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Print one row per seed; exit code 1 when the promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/quickstart.toml"))
    parser.add_argument("--picture", type=Path, help="write an SVG of the result here")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        row = judge(run(options.recipe, seed, options.overrides))
        rows.append(row)
        print(
            f"seed {seed}: {100 * row['accuracy_before']:5.1f} % -> {100 * row['accuracy_after']:5.1f} %  "
            f"n={row['n']}  {row['wall_s']:.0f} s  {row['peak_rss_mb']:.0f} MB  "
            f"{'holds' if row['holds'] else 'FAILS'}",
            flush=True,
        )
    if options.picture:
        draw(rows, options.picture)
    holds = all(row["holds"] for row in rows)
    if options.json:
        kept = [{key: value for key, value in row.items() if key != "curves"} for row in rows]
        print(json.dumps({"claim": "quickstart", "holds": holds, "seeds": kept}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
