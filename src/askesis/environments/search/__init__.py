"""Questions that are answered by searching: generated chains of facts, or question-answering data sets."""
