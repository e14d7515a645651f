"""The page that shows every published claim, from their records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from askesis.claims.catalog import CLAIMS
from askesis.claims.claim import number
from askesis.claims.drawing import draw
from askesis.claims.records import FORMAT_VERSION
from askesis.errors import AskesisError

__all__ = ["build_page", "load_records", "page_text", "publish"]


def publish(results: Sequence[Path], docs: Path) -> Path:
    """Put ``result.json`` files at ``docs/claims/NAME.json``, then build the page. AskesisError without a verdict."""
    (docs / "claims").mkdir(parents=True, exist_ok=True)
    for result in results:
        record = _load(result)
        if record["holds"] is None:
            raise AskesisError("a result that was not judged is not published", where=str(result), got=record["scale"])
        place = docs / "claims" / f"{record['claim']}.json"
        place.write_text(json.dumps(record, sort_keys=True) + "\n", encoding="utf-8")
    return build_page(docs)


def build_page(docs: Path) -> Path:
    """Write ``docs/claims.md`` and a picture beside each record in ``docs/claims/``."""
    records = load_records(docs)
    for record in records:
        draw(record, docs / "claims" / f"{record['claim']}.svg")
    page = docs / "claims.md"
    page.write_text(page_text(records), encoding="utf-8")
    return page


def load_records(docs: Path) -> list[dict[str, Any]]:
    """The published records, in the order of the catalogue."""
    return [_load(path) for name in CLAIMS if (path := docs / "claims" / f"{name}.json").is_file()]


def page_text(records: Sequence[Mapping[str, Any]]) -> str:
    """The page in Markdown."""
    return "\n".join([*_head(records), *(line for record in records for line in _section(record))])


def _load(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if record.get("format_version") != FORMAT_VERSION:
        raise AskesisError(
            "this is no result of a claim that can be shown",
            where=str(path),
            got=record.get("format_version"),
            expected=FORMAT_VERSION,
            next_step="run `askesis claim NAME` again",
        )
    return record


_INTRODUCTION = """# Claims

Each paper's method against baselines under one budget: the same tasks, random streams and limits for every arm, so that
arms are compared in pairs. Language models are the built-in policy. Intervals are 95 % bootstrap intervals over seeds
and held-out items. A claim holds only if every part of it does; one that fails stays here. A result on a small model
says nothing about a large one.

`askesis claim` lists the claims, `askesis claim NAME` checks one: exit code 0 when it holds, 1 when it does not. Among
the versions of a result, `code` is the hash of the package's files that made it; `askesis claim --json` names yours.
"""


def _head(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _INTRODUCTION
    if not records:
        yield "No result is published yet."
        return
    yield "| claim | the paper says | measured here | arms | verdict | scale |"
    yield "|---|---|---|---|---|---|"
    for record in records:
        name, first = record["claim"], record["parts"][0]
        verdict = "holds" if record["holds"] else "**fails**"
        effect = _signed(first["effect"], _unit(record, first["metric"]))
        shown = f"{verdict}: {effect} over {first['rival']}"
        size = f"{record['scale']}, {record['seeds']} seeds, {_minutes(record)}"
        cells = (f"[{name}](#{name})", record["statement"], record["measured"], _arms(record), shown, size)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _arms(record: Mapping[str, Any]) -> str:
    """What every arm reached in the headline's metric and setting, for one cell of a table."""
    first = record["parts"][0]
    cells = [arm for arm in record["arms"] if arm["setting"] == first["setting"]]
    unit = _unit(record, first["metric"])
    lines = [f"{arm['arm']} {_plain(arm['metrics'][first['metric']], unit)}" for arm in cells]
    return "<br>".join([f"{first['metric']}, {first['setting']}:", *lines])


def _section(record: Mapping[str, Any]) -> Iterator[str]:
    name = record["claim"]
    yield f"## {name}"
    yield ""
    yield f"{record['title']}. {record['paper']}."
    yield ""
    yield f"**The paper's claim.** {record['statement']}"
    yield ""
    yield f"**Measured here.** {record['measured']}"
    yield ""
    yield f"**Verdict: {'holds' if record['holds'] else 'fails'}.** {record['reason']}"
    yield ""
    yield f"![Results of {name}](claims/{name}.svg)"
    yield ""
    yield "| part | setting | metric | against | effect | must lie | holds |"
    yield "|---|---|---|---|---|---|---|"
    for part in record["parts"]:
        keys = (part[key] for key in ("statement", "setting", "metric", "rival"))
        effect = _signed(part["effect"], _unit(record, part["metric"]))
        cells = (*keys, effect, part["required"], "yes" if part["holds"] else "no")
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from _table(record)
    yield ""
    for said in record["metrics"]:
        notes = [said["note"]] if said["note"] else []
        notes += ["lower is better"] if said["lower_is_better"] else []
        if notes:
            yield f"- {said['name']}: {'; '.join(notes)}"
    for arm_name, note in {arm["arm"]: arm["note"] for arm in record["arms"] if arm["note"]}.items():
        yield f"- {arm_name}: {note}"
    yield ""
    yield f"Scale {record['scale']}, {record['seeds']} seeds, {_minutes(record)}. Versions: {_versions(record)}."
    yield ""


def _table(record: Mapping[str, Any]) -> Iterator[str]:
    """What every arm reached, in every setting and metric."""
    cost = [record["cost_name"]] if record["cost_name"] else []
    metrics = record["metrics"]
    titles = [f"{said['name']}, {said['unit']}" if said["unit"] else said["name"] for said in metrics]
    columns = ["setting", "arm", "role", *titles, *cost]
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for arm in record["arms"]:
        shown = [_plain(arm["metrics"][said["name"]], said["unit"]) for said in metrics]
        cells = [arm["setting"], arm["arm"], arm["role"], *shown, *([_amount(arm["cost"])] if cost else [])]
        yield f"| {' | '.join(cells)} |"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _unit(record: Mapping[str, Any], metric: str) -> str:
    unit: str = next(said["unit"] for said in record["metrics"] if said["name"] == metric)
    return unit


def _plain(value: Mapping[str, Any], unit: str, sign: str = "") -> str:
    mean, low, high = (number(one, unit, sign=sign) for one in (value["mean"], *value["ci"]))
    return f"{mean} [{low}, {high}]"


def _signed(value: Mapping[str, Any], unit: str) -> str:
    return _plain(value, unit, "+")


def _minutes(record: Mapping[str, Any]) -> str:
    return f"{record['wall_s'] / 60:.1f} minutes"


def _versions(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in record["versions"].items())
