"""From a run's folder to its report: reads the store and the run's two files, computes nothing anew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from askesis.errors import AskesisError
from askesis.store import Group, Member, Store
from askesis.training.evaluating import evaluation_of
from askesis.training.report import (
    Evaluation,
    FailureCount,
    RecipeRow,
    ReportData,
    SampleGroup,
    SampleTrace,
    SelfCheck,
    TokenView,
    to_html,
)
from askesis.training.rundir import RunDir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["collect", "write_report"]

_PAIRS = 8
_TRAINING_GROUPS = 2
_TRAINING_MEMBERS = 8


def write_report(run: RunDir, out: Path | None = None) -> Path:
    """Write the run's report and return its path. Raises AskesisError when the file cannot be written."""
    path = out or run.report
    try:
        path.write_text(to_html(collect(run)), encoding="utf-8")
    except OSError as error:
        raise AskesisError("the report cannot be written", where=str(path), got=str(error)) from error
    return path


def collect(run: RunDir) -> ReportData:
    """Everything that a report shows about ``run``."""
    identity, state = run.identity(), run.state()
    with Store.open(run.store_target, create=False, read_only=True) as store:
        run_id = identity["run_id"]
        series = store.metrics(run_id)
        samples = list(_samples(store, run, run_id))
        failures = _failures(store, run_id)
    evaluations = [evaluation_of(e) for e in state.get("evaluations", {}).values()]
    recipe = identity["recipe"]
    return ReportData(
        run_id=run_id,
        status=state.get("status", "new"),
        summary=f"{recipe['policy.name']} on {recipe['environment.name']}/{recipe['environment.family']} "
        f"with {_method(recipe)}",
        started=state.get("started"),
        finished=state.get("finished"),
        steps_done=state.get("step"),
        steps_planned=recipe["training.steps"],
        wall_s=state.get("wall_s"),
        peak_rss_mb=state.get("peak_rss_mb"),
        versions=identity["versions"],
        seed=identity["seed"],
        recipe_hash=identity["recipe_hash"],
        command=_command(identity),
        recipe=[_row(*row) for row in identity["rows"]],
        algorithm=state.get("algorithm", {}),
        evaluations=sorted(evaluations, key=_when),
        series=series,
        self_checks=[SelfCheck(**check) for check in state.get("self_checks", ())],
        failures=failures,
        groups=samples,
        warnings=[*state.get("warnings", ()), *([state["error"]] if state.get("error") else ())],
    )


def _method(recipe: Mapping[str, Any]) -> str:
    """What learned: a preset of the gradient learner, or the method of evolution. Runs of old know only presets."""
    name = "learner.evolution.method" if recipe.get("learner.kind") == "evolution" else "algorithm.name"
    return str(recipe[name])


def _when(evaluation: Evaluation) -> tuple[int, int]:
    order = {"before": (0, 0), "after": (2, 0)}
    label = evaluation.label
    return order.get(label) or (1, int(label.removeprefix("step ")))


def _row(key: str, value: object, default: object, origin: str) -> RecipeRow:
    return RecipeRow(key=key, value=_toml(value), default=None if default is None else _toml(default), origin=origin)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _command(identity: Mapping[str, Any]) -> str:
    changed = [
        f"{key}={_toml(value)}"
        for key, value, _, origin in identity["rows"]
        if origin == "command line" and key != "run.dir"
    ]
    files = [
        origin.rpartition(":")[0] for _, _, _, origin in identity["rows"] if origin not in ("default", "command line")
    ]
    return " ".join(["askesis train", files[0] if files else "RECIPE", *(f"'{c}'" for c in changed)])


def _failures(store: Store, run_id: str) -> list[FailureCount]:
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for row in _failed(store, run_id):
        key = (row[0], row[1])
        counts[key] += 1
        examples.setdefault(key, row[2])
    return [FailureCount(origin=o, kind=k, count=n, example=examples[o, k]) for (o, k), n in counts.most_common()]


def _failed(store: Store, run_id: str) -> Iterator[tuple[str, str, str]]:
    """Origin, kind and message of every failed session; each group is read once."""
    summaries = store.trace_summaries(run_id, limit=1 << 31)
    for name in dict.fromkeys(s.group_id for s in summaries if s.status == "error"):
        group = store.group(name)
        for member in group.members if group else ():
            if member.verdict.error is not None:
                yield member.verdict.error.origin.value, member.verdict.error.kind, member.verdict.error.message


def _samples(store: Store, run: RunDir, run_id: str) -> Iterator[SampleGroup]:
    """Held-out tasks before and after, those first where the outcome changed; then groups of the last training step."""
    show = _TokenReader(run)
    steps = store.steps(run_id, "evaluation")
    if len(steps) > 1:
        first = {g.task.key: g for g in store.groups(run_id, purpose="evaluation", step=steps[0])}
        last = {g.task.key: g for g in store.groups(run_id, purpose="evaluation", step=steps[-1])}
        pairs = [(first[key], last[key]) for key in first if key in last]
        pairs.sort(key=lambda pair: pair[0].members[0].verdict.completed == pair[1].members[0].verdict.completed)
        for before, after in pairs[:_PAIRS]:
            members = [show.member("before", before.members[0]), show.member("after", after.members[0])]
            yield _sample_group(before, members, f"held out: {before.task.key}")
    trained = store.consumed(run_id)
    newest = max(trained.values(), default=-1)
    for name in islice((name for name, step in trained.items() if step == newest), _TRAINING_GROUPS):
        group = store.group(name)
        if group is not None:
            chosen = group.members[:_TRAINING_MEMBERS]
            members = [show.member(f"answer {m.member_index + 1}", m) for m in chosen]
            yield _sample_group(group, members, f"training, step {newest + 1}: {group.task.key}")


def _sample_group(group: Group, members: Sequence[SampleTrace], title: str) -> SampleGroup:
    payload = group.task.payload
    answer = payload.get("answer")
    return SampleGroup(
        question=str(payload.get("question", group.task.key)),
        members=members,
        expected=None if answer is None else str(answer),
        title=title,
    )


class _TokenReader:
    """Text of each token by the run's own tokenizer; without one, the ids themselves are shown."""

    def __init__(self, run: RunDir) -> None:
        self._tokenizer: PreTrainedTokenizerBase | None = None
        if (run.model / "tokenizer.json").is_file():
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(str(run.model), trust_remote_code=False)

    def member(self, label: str, member: Member) -> SampleTrace:
        """The first branch of a session, token by token."""
        trace = member.trace
        tokens: list[TokenView] = []
        if trace.nodes:
            branch = trace.branches()[0]
            ids, sampled, logprobs = branch.tokens.tolist(), branch.sampled.tolist(), branch.logprobs.tolist()
            tokens = [
                TokenView(text=self._text(i), sampled=s, id=i, logprob=lp if s else None)
                for i, s, lp in zip(ids, sampled, logprobs, strict=True)
            ]
        verdict = member.verdict
        return SampleTrace(
            label=label, reward=verdict.reward, completed=verdict.completed, stop=trace.stop.value, tokens=tokens
        )

    def _text(self, token: int) -> str:
        if self._tokenizer is None:
            return f"[{token}]"
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))
