"""Worlds that a foreign program plays: it calls the policy through an OpenAI-compatible endpoint, and is recorded."""
