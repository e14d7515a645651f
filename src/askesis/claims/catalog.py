"""The claims by name. A claim's module is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

from askesis.claims.claim import Claim
from askesis.errors import RecipeError, did_you_mean

__all__ = ["CLAIMS", "find_study"]

CLAIMS = ("a-nsr", "aem", "aem-search", "dgpo", "essam", "memsearcher", "oases", "art-diffusion", "vespo", "realign")
"""Each is the module of that name, with underscores, and holds a ``STUDY``: a Study or an Experiment."""


def find_study(name: str) -> Claim:
    """The study or experiment called ``name``. RecipeError, with a close match, when there is none."""
    if name not in CLAIMS:
        raise RecipeError(
            f"there is no claim called {name!r}",
            where="claim",
            got=name,
            expected=", ".join(CLAIMS),
            next_step=did_you_mean(name, CLAIMS) or "`askesis claim` lists them",
        )
    study: Claim = import_module(f"askesis.claims.{name.replace('-', '_')}").STUDY
    return study
