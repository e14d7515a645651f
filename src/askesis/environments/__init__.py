"""Worlds for a policy to act in: the protocol, the built-in ones, and how to find those of other packages."""

from askesis.environments.check import CheckReport, check_environment
from askesis.environments.protocol import (
    SEAT,
    AnswerMode,
    Capabilities,
    Done,
    Environment,
    Evaluator,
    State,
    TaskSource,
    ToolResult,
    Turn,
    World,
    validate_turn,
)
from askesis.environments.registry import make_world, world_names

__all__ = [
    "SEAT",
    "AnswerMode",
    "Capabilities",
    "CheckReport",
    "Done",
    "Environment",
    "Evaluator",
    "State",
    "TaskSource",
    "ToolResult",
    "Turn",
    "World",
    "check_environment",
    "make_world",
    "validate_turn",
    "world_names",
]
