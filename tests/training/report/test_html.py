"""The page: complete, self-contained, and deaf to what models write into it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from askesis.evaluation import Interval
from askesis.training.report import (
    Estimate,
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
from askesis.training.report.html import algorithm_rows

Make = Callable[..., ReportData]
LIMIT = 5_000_000

SCRIPTS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script href=data:,alert(1) />",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<body onload=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<base href=https://evil.example/>",
    "<form action=https://evil.example><button>go</button></form>",
    "<object data=https://evil.example>",
    "<div style='background:url(https://evil.example)'>",
    "{{ 7 * 7 }}{% for x in [1] %}boom{% endfor %}",
    "{{ ''.__class__.__mro__ }}",
    "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>",
]
WRAPPERS = ["{}", "'\">{}", "</style></title>{}", "</section>-->{}<!--", "\x00{}\u202e"]
PAYLOADS = [wrapper.replace("{}", script) for wrapper in WRAPPERS for script in SCRIPTS]


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

        self.words += [] if tag == "span" else [" "]

    def handle_endtag(self, tag: str) -> None:
        self.words += [] if tag == "span" else [" "]

    def handle_data(self, data: str) -> None:
        self.words.append(data if self.tags["body"] else "")

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def hostile(payload: str, graded: int = 5) -> ReportData:
    """Every text of a report is the payload. Without graded answers there are no charts: they are slow and textless."""
    interval = Interval(0.1, 0.9)
    token = TokenView(text=payload, sampled=True, id=1, logprob=-1.0)
    prompt = TokenView(text=payload, sampled=False)
    trace = SampleTrace(label=payload, reward=0.0, completed=None, stop=payload, tokens=[prompt, token, prompt, token])
    return ReportData(
        run_id=payload,
        status=payload,
        summary=payload,
        versions={payload: payload},
        recipe_hash=payload,
        command=payload,
        recipe=[RecipeRow(key=payload, value=payload, default=d, origin=payload) for d in (payload, None)],
        algorithm={payload: {"name": payload, payload: payload}, "flat": payload},
        evaluations=[
            Evaluation(
                label=payload, n=graded, successes=graded // 2, interval=interval, pass_at_k={1: Estimate(value=0.4)}
            )
        ],
        series={payload: [(1, 1.0 if graded else None)]},
        self_checks=[SelfCheck(name=payload, passed=False, detail=payload)],
        failures=[FailureCount(origin=payload, kind=payload, count=1, example=payload)],
        groups=[SampleGroup(title=payload, question=payload, expected=payload, members=[trace] * 6)] * 5,
        warnings=[payload],
    )


@pytest.fixture(scope="module")
def html(make_report: Make) -> str:
    """The page of the made-up run."""
    return to_html(make_report())


def check_inert(html: str) -> Page:
    """No element, attribute or reference that loads or runs anything."""
    page = Page(html)
    allowed = {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "footer", "article", "div"),
        *("span", "p", "h1", "h2", "h3", "ul", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"),
        *("a", "b", "em", "small", "code", "pre", "blockquote", "details", "summary", "figure", "figcaption", "br"),
        *("svg", "g", "path", "text"),
    }
    assert set(page.tags) <= allowed
    assert page.tags["style"] == page.tags["title"] == page.tags["body"] == 1
    assert page.tags["meta"] == 5
    for tag, name, value in page.attributes:
        assert not name.startswith("on") and name not in {"src", "srcset", "srcdoc", "action", "data", "xlink:href"}
        assert name != "href" or (tag == "a" and re.fullmatch(r"#[a-z]+", value))
        assert name != "style" or not re.search(r"url|import|expression|:\s*//|https?:", value)
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"url\(|@import|@font-face|https?:", style)
    return page


def test_there_are_more_than_a_hundred_payloads() -> None:
    assert len(set(PAYLOADS)) > 100


@pytest.mark.parametrize("batch", range(7))
def test_hostile_text_stays_text(batch: int) -> None:
    plain = {graded: Page(to_html(hostile("plain", graded))).tags for graded in (0, 5)}
    for place, payload in enumerate(PAYLOADS[batch::7]):
        graded = 0 if place % 3 else 5
        page = check_inert(to_html(hostile(payload, graded)))
        assert page.tags == plain[graded]
        shown = " ".join(payload.replace("\x00", "␀").replace("\u202e", "⟨U+202E⟩").split())
        assert page.text.count(shown) > 20


def test_template_language_in_a_trace_is_not_run() -> None:
    assert "{{ 7 * 7 }}" in to_html(hostile("{{ 7 * 7 }}"))


def test_the_page_forbids_scripts_and_loads(html: str) -> None:
    page = check_inert(html)
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"https?://", html)
    assert "url(" not in html and "@import" not in html


def test_the_story_is_on_the_page(html: str) -> None:
    text = Page(html).text
    for shown in (
        "Better by 50.8 points",
        "[78.4, 85.1]",
        "n = 500",
        "✓ 4 self-checks passed",
        "4 failed sessions",
        "ContextOverflow",
        "3 of 503 answers before training",
        "algorithm.clip_high",
        "askesis train recipes/quickstart.toml",
        "advantage +0.63",
        "Thinks first",
        "zero_variance_groups",
        "2 min 43 s",
    ):
        assert shown in text
    assert text.index("mean over the batch") < text.index("near 0: the policy") < text.index("zero_variance_groups")
    assert html.count('class="p') > 50
    assert len(html.encode()) < 300_000


def test_the_same_data_gives_the_same_bytes(html: str, make_report: Make) -> None:
    assert to_html(make_report()) == html


def test_every_anchor_exists_once(html: str) -> None:
    page = Page(html)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in page.attributes if name == "href"} <= set(ids)


def test_an_empty_run_has_a_page() -> None:
    page = check_inert(to_html(ReportData(run_id="r", status="running")))
    assert "No held-out evaluation has been made" in page.text
    assert "No session failed." in page.text


def test_failed_checks_and_series_without_values_are_plain(make_report: Make) -> None:
    checks = [SelfCheck(name="good", passed=True), SelfCheck(name="masks", passed=False, detail="row 3")]
    data = make_report(self_checks=checks, series={"loss": [(1, None), (2, float("nan"))]}, evaluations=[])
    text = Page(to_html(data)).text
    odd = make_report(series={"grad_norm": [(1, 0.5), (2, float("inf")), (3, None), (4, 0.25)]})
    assert "0.5 → 0.25, between 0.25 and 0.5, 1 not finite" in Page(to_html(odd)).text
    assert "✗ 1 of 2 self-checks failed" in text
    assert text.index("masks failed") < text.index("✓ good")
    assert "No finite value was recorded." in text


def test_an_evaluation_without_graded_answers_is_shown(make_report: Make) -> None:
    bad = Evaluation(label="before", n=0, successes=0, interval=None, errors=500)
    text = Page(to_html(make_report(evaluations=[bad]))).text
    assert "0 of 0 –" in text


@pytest.mark.opt_in
def test_the_page_stays_below_five_megabytes_whatever_comes() -> None:
    text = '"' * 20_000
    token = TokenView(text=text, sampled=True, id=1, logprob=-1.0)
    trace = SampleTrace(label=text, reward=1.0, completed=True, stop=text, tokens=[token] * 3000, advantage=1e300)
    group = SampleGroup(title=text, question=text, expected=text, members=[trace] * 40)
    evaluation = Evaluation(
        label=text, n=9, successes=3, interval=Interval(0.1, 0.9), pass_at_k={k: Estimate(value=0.5) for k in range(99)}
    )
    data = ReportData(
        run_id=text,
        status=text,
        summary=text,
        versions={f"{i}{text}": text for i in range(500)},
        recipe_hash=text,
        command=text,
        recipe=[RecipeRow(key=text, value=text, default=text + text, origin=text)] * 5000,
        algorithm={f"{i}{text}": {"name": text, text: text} for i in range(300)},
        evaluations=[evaluation] * 200,
        series={f"{i}{text}": [(s, float(s % 7)) for s in range(1000)] for i in range(100)},
        self_checks=[SelfCheck(name=text, passed=False, detail=text)] * 1000,
        failures=[FailureCount(origin=text, kind=text, count=1, example=text)] * 1000,
        groups=[group] * 100,
        warnings=[text] * 1000,
    )
    html = to_html(data)
    assert len(html.encode()) < LIMIT
    for note in (
        "52 more metrics",
        "4,600 more values",
        "900 more warnings",
        "152 more evaluations",
        "more tasks not shown",
    ):
        assert note in html


def test_charts_of_long_runs_stay_small(make_report: Make) -> None:
    names = [f"metric {i}" for i in range(20)]
    long = make_report(
        series={name: [(s, float((s * 7919) % 101)) for s in range(10_000)] for name in names}, groups=[]
    )
    assert len(to_html(long).encode()) < 400_000


def test_algorithm_rows_take_flat_and_nested_descriptions() -> None:
    described = {"preset": "grpo", "kl": None, "objective": {"name": "clip", "low": 0.2, "dual": None, "x": {"a": 1}}}
    assert algorithm_rows(described) == [
        ("preset", "grpo", ""),
        ("kl", "none", ""),
        ("objective", "clip", "low = 0.2, dual = none, x = {a = 1}"),
    ]
