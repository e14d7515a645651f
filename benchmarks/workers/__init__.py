"""One process per side of a comparison. ``python -m benchmarks.workers`` reads its job from standard input."""
