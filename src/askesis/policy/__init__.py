"""The model, its tokenizer and chat template, and weights on disk.

Modules are imported by name (``askesis.policy.loading``), so that looking at a model folder does not load torch.
"""
