"""Sampling by vLLM servers, started here or reached by address. Needs the extra ``vllm``; vLLM lives elsewhere."""

from askesis.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
