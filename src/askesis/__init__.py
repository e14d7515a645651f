"""Askesis: train, run and judge LLM agents that learn from experience.

Importing the package is cheap: neither torch nor transformers is loaded until something needs them.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
