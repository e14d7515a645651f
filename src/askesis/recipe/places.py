"""The sections of a recipe that say where things are: records, watchers, engines, other machines."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from askesis.recipe.section import Section

__all__ = ["ClusterSection", "EngineSection", "ObserveSection", "StoreSection", "VllmSection", "without_secrets"]

_PASSWORD = re.compile(r"(?:://[^@/?#]*:[^@]*@)|(?:[?&](?:ssl)?password=)", re.IGNORECASE)
_SECRETS = (
    (re.compile(r"://.*@"), "://***@"),
    (re.compile(r"((?:^|[?&\s])(?:ssl)?password=)[^&\s]*", re.IGNORECASE), r"\1***"),
)


def without_secrets(text: str) -> str:
    """``text`` without what may be the user and the password of an address in it."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


class StoreSection(Section):
    """Where traces, verdicts and metrics are kept."""

    url: str = ""
    """``postgresql+psycopg://user@host:5432/database`` (extra ``postgres``); empty: a SQLite file in the run's folder.
    A recipe is stored with its run, so the password stays outside it: PGPASSWORD, ~/.pgpass or a service file.
    """
    outage_s: float = Field(default=60.0, ge=0)
    """How long a run waits for a database server that went away. After that it stops; the same command resumes it."""

    @field_validator("url")
    @classmethod
    def _has_no_password(cls, url: str) -> str:
        if _PASSWORD.search(url):
            raise PydanticCustomError(
                "password_in_url",
                "the address holds a password, and a recipe is kept with its run; take it out and set PGPASSWORD, or "
                "write it into ~/.pgpass or a service file",
            )
        if url and not re.match(r"postgresql(\+psycopg)?://", url):
            raise PydanticCustomError(
                "not_a_url", "no store can lie there; postgresql+psycopg://user@host:5432/database, or leave it empty"
            )
        return url


class ObserveSection(Section):
    """Who else may watch a run. Nothing of it changes a result."""

    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of a Prometheus endpoint at ``/metrics`` (extra ``serve``); 0: none."""
    metrics_host: str = "127.0.0.1"
    """Address that it listens on. Beyond loopback scrapers need the token in the environment's ASKESIS_TOKEN."""
    traces: bool = False
    """Send OpenTelemetry spans of steps, phases and sessions (extra ``otel``) to OTEL_EXPORTER_OTLP_ENDPOINT."""


class VllmSection(Section):
    """Where vLLM is and how it is run; for ``engine.kind = "vllm"``."""

    urls: list[str] = Field(default_factory=list)
    """Servers that run already, as ``http://HOST:PORT``; their key is in the environment variable ASKESIS_VLLM_KEY.
    Empty: servers are started here, and end with the run.
    """
    python: str = ""
    """Interpreter of the virtual environment that has vLLM. Empty: the one that runs Askesis."""
    replicas: int = Field(default=1, ge=1, le=1024)
    """Servers to start."""
    devices: list[str] = Field(default_factory=list)
    """CUDA_VISIBLE_DEVICES of each server that is started, such as ``["0", "1"]``. Empty: all see what we see."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """In which it computes. ``auto``: policy.dtype."""
    max_model_len: int = Field(default=0, ge=0)
    """Longest prompt and answer that the server makes room for. 0: sampling.max_context, or what the model was built
    for.
    """
    arguments: list[str] = Field(default_factory=list)
    """More arguments of ``vllm serve``, such as ``["--tensor-parallel-size", "2"]``."""
    weights_dir: str = ""
    """Folder through which new weights travel; every server must see it by this name. Empty: the run's own."""
    max_gap: float = Field(default=0.0, ge=0)
    """Largest mean difference between a server's and the learner's log-probabilities of the same weights, nats. 0: 1e-3
    in float32, 0.1 in half precision.
    """
    start_timeout_s: float = Field(default=900.0, gt=0)
    """For a server to come up, seconds."""
    request_timeout_s: float = Field(default=600.0, gt=0)
    """For one answer, seconds."""
    update_timeout_s: float = Field(default=600.0, gt=0)
    """For a server to take and verify new weights, seconds."""
    restarts: int = Field(default=8, ge=0)
    """Servers that died are started again this many times in one process."""

    @model_validator(mode="after")
    def _devices_fit(self) -> VllmSection:
        if self.devices and len(self.devices) != self.replicas:
            raise ValueError(
                f"devices={self.devices} has {len(self.devices)} entries, but engine.vllm.replicas={self.replicas}"
            )
        return self


class EngineSection(Section):
    """Who turns a prefix into tokens."""

    kind: Literal["embedded", "vllm"] = "embedded"
    """``embedded``: this process, on the learner's tensors; ``vllm``: servers, which get a copy of every version."""
    vllm: VllmSection = Field(default_factory=VllmSection)
    max_batch: int = Field(default=512, ge=1)
    """Sequences sampled side by side at most; with ``vllm``, by each server."""
    admission: Literal["lockstep", "continuous"] = "lockstep"
    """``lockstep``: calls begin together once every open session waits for the engine, so that a resumed run samples
    the same bits however long environments take; ``continuous``: a call joins at the next token, as it always does
    with ``vllm``.
    """
    kv_tokens: int = Field(default=0, ge=0)
    """Tokens whose keys and values are kept for later turns; 0 means what fits into 512 MiB (4 GiB on CUDA). vLLM
    has settings of its own.
    """


class ClusterSection(Section):
    """Other processes and machines. What a run comes to does not depend on it."""

    kind: Literal["local", "ray"] = "local"
    """``ray``: by actors of a Ray cluster. Groups of sessions, or an evolution's members, are played there."""
    address: str = ""
    """Of a Ray cluster that is there, such as ``auto``; empty starts one on this machine."""
    workers: int = Field(default=2, ge=1)
    """Actors that play sessions."""
    cpus_per_worker: float = Field(default=1.0, ge=0)
    gpus_per_worker: float = Field(default=0.0, ge=0)
    groups_per_worker: int = Field(default=1, ge=1)
    """Groups that a worker plays side by side. More make larger batches, and a slow environment holds up more of them.
    """
    environment_workers: int = Field(default=0, ge=0)
    """Actors for environments and evaluators, beside each process that plays sessions: this one, or every worker of
    ``kind = "ray"``. 0: they live in that process.
    """
    cpus_per_environment_worker: float = Field(default=1.0, ge=0)
    timeout_s: float = Field(default=3600.0, gt=0)
    """A worker that has not answered after this long is replaced."""
    learner_ranks: int = Field(default=1, ge=1, le=1024)
    """Processes that share the gradient learner's weights, gradients and optimiser (FSDP), on a GPU each where there
    are GPUs. With ``kind = "ray"`` Ray places them. It changes low-order bits only.
    """
    learner_device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ranks compute. ``auto``: as ``policy.device``. ``cuda`` with ``policy.device = "cpu"`` keeps this process's
    copy of the policy, from which servers and checkpoints get their weights, in the machine's memory.
    """
    learner_keep_every: int = Field(default=1, ge=0)
    """Updates between copies of weights and optimiser in the driver's memory, from which lost ranks are replaced; for
    ``learner_ranks`` above 1. 0: no copies, a lost rank ends the run, and it resumes from its checkpoint.
    """
    keep_sessions: bool = True
    """False: workers send rewards only, and the store says of each session how it ended, but not what was said."""
