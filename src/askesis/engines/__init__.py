"""Who turns a prefix into tokens."""

from askesis.engines.protocol import Capabilities, Completion, Engine, Remote, Request, Sampling, Swaps, TracksSessions

__all__ = ["Capabilities", "Completion", "Engine", "Remote", "Request", "Sampling", "Swaps", "TracksSessions"]
