"""Watching a run: where its time goes, what it does now, and who else is told."""
