"""The timeline as SVG: a lane for each wave, gates as diamonds, what people did, and the way back."""

from collections.abc import Iterable
from typing import Final

from orchestrator.reporting.markup import Html, el, join
from orchestrator.reporting.model import Evaluation, Report, Rollback, Span
from orchestrator.reporting.words import (
    SYMBOLS,
    check_text,
    clock_text,
    count_text,
    moment_text,
    seconds_text,
)
from schemas.verdicts import VerdictWord

_WIDTH: Final = 1000
_LEFT: Final = 118
_RIGHT: Final = 22
_TOP: Final = 10
_LANE: Final = 36
_BAR: Final = 16
_LABEL_WIDTH: Final = 72
_TICKS_MAX: Final = 8
_STEPS_SECONDS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_DAY: Final = 86400


class _Scale:
    """Seconds to x."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, max(end, start + 1)
        self._factor = (_WIDTH - _LEFT - _RIGHT) / (self.end - start)

    def x(self, at: float) -> float:
        """Return the place of a moment, within the picture."""
        return round(_LEFT + (min(max(at, self.start), self.end) - self.start) * self._factor, 1)


def timeline(report: Report) -> Html:
    """Return the picture; each shape says in words what it is."""
    lanes = ["People", *(wave.name for wave in report.waves)]
    backs = [each for each in report.rollbacks if each.scope != "device"]
    if backs:
        lanes.append("Way back")
    scale = _Scale(report.header.started_at, _end(report))
    height = _TOP + _LANE * len(lanes) + 30
    drawn = [_HATCH, *_lanes(lanes), *_ticks(scale, _TOP + _LANE * len(lanes)), *_restarts(report, scale, len(lanes))]
    drawn += [_bar(report, span, scale) for span in report.spans if span.activity != "rolling_back"]
    drawn += [_diamond(each, scale) for each in report.evaluations]
    judged_at = {gate.at for gate in report.evaluations}
    drawn += [_sign(each, scale) for each in report.rollbacks if each.at not in judged_at]
    drawn += _people(report, scale)
    for back in backs:
        end = back.last_back_at or report.header.ended_at or report.header.generated_at
        said = f"{back.back:,} of {len(back.devices):,} back"
        lane, text = len(lanes) - 1, f"Rolled back: {said}; {back.reason}"
        drawn.append(_rect("rolling_back", back.at, end, scale, lane=lane, text=text))
        drawn.append(_beside(scale, back.at, end, lane, f"{said} in {seconds_text(end - back.at)}"))
    summary = "; ".join(_lane_words(report, number) for number, wave in enumerate(report.waves) if wave.started_at)
    return el(
        "svg", el("title", "Timeline of waves and gates"), el("desc", summary), join(drawn),
        viewBox=f"0 0 {_WIDTH} {height}", role="img", class_="timeline",
    )  # fmt: skip


def _end(report: Report) -> float:
    ends = [report.header.ended_at or 0.0, *(span.end for span in report.spans)]
    return max([*ends, *(each.last_back_at or 0.0 for each in report.rollbacks)])


def _lane_words(report: Report, number: int) -> str:
    wave = report.waves[number]
    gates = [f"{each.gate} {each.verdict}" for each in report.evaluations if each.wave == number]
    return f"{wave.name} from {moment_text(wave.started_at)} to {moment_text(wave.ended_at)} {', '.join(gates)}"


def _y(lane: int) -> int:
    return _TOP + _LANE * lane + _LANE // 2


def _lanes(names: list[str]) -> Iterable[Html]:
    for lane, name in enumerate(names):
        top = _TOP + _LANE * lane
        yield el("rect", x=0, y=top, width=_WIDTH, height=_LANE, class_="lane odd" if lane % 2 else "lane")
        yield el("text", name[:16], x=10, y=_y(lane) + 4, class_="name")


def _ticks(scale: _Scale, bottom: int) -> Iterable[Html]:
    span = scale.end - scale.start
    days = -(-span // (_TICKS_MAX * _DAY)) * _DAY
    step = next((step for step in _STEPS_SECONDS if span / step <= _TICKS_MAX), days)
    at = -(-scale.start // step) * step
    while at <= scale.end:
        x = scale.x(at)
        text = moment_text(at)[5:16] if step >= _DAY or span > _DAY else clock_text(at)[: 8 if step < 60 else 5]  # noqa: PLR2004 - a minute
        yield el("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="tick")
        yield el("text", text, x=x, y=bottom + 18, class_="axis", text_anchor="middle")
        at += step


def _restarts(report: Report, scale: _Scale, lanes: int) -> Iterable[Html]:
    for row in report.audit:
        if row.kind == "epoch_opened":
            x = scale.x(row.at)
            title = el("title", f"{clock_text(row.at)} {row.text}")
            yield el("line", title, x1=x, x2=x, y1=_TOP, y2=_TOP + _LANE * lanes, class_="restart")


def _bar(report: Report, span: Span, scale: _Scale) -> Html:
    what = span.phase.replace("_", " ")
    took = seconds_text(span.end - span.start)
    text = f"{report.wave_name(span.wave)}: {what} for {took} from {clock_text(span.start)}"
    return _rect(span.activity, span.start, span.end, scale, lane=1 + span.wave, text=text)


def _rect(kind: str, start: float, end: float, scale: _Scale, *, lane: int, text: str) -> Html:
    x = scale.x(start)
    width = max(3.0, round(scale.x(end) - x, 1))
    return el(
        "rect", el("title", text), x=x, y=_y(lane) - _BAR // 2, width=width, height=_BAR, rx=3, class_=f"bar {kind}"
    )


def _beside(scale: _Scale, start: float, end: float, lane: int, text: str) -> Html:
    """Write beside a bar: to its right where there is room, else to its left."""
    right, left = scale.x(end), scale.x(start)
    has_room = _WIDTH - right > 6.5 * len(text)
    x, anchor = (right + 8, "start") if has_room else (left - 8, "end")
    return el("text", text, x=x, y=_y(lane) + 4, class_="beside", text_anchor=anchor)


def _diamond(each: Evaluation, scale: _Scale) -> Html:
    checks = "; ".join(check_text(check) for check in each.checks)
    text = f"{clock_text(each.at)} {each.gate} is {each.verdict} ({each.decision.replace('_', ' ')}): {checks}"
    return _stone(scale.x(each.at), 1 + each.wave, text, each.verdict)


def _sign(back: Rollback, scale: _Scale) -> Html:
    """Draw what brought devices back, where no gate did."""
    return _stone(scale.x(back.at), 1 + back.wave, f"{clock_text(back.at)} {back.trigger}: {back.reason}", "fail")


def _stone(x: float, lane: int, text: str, verdict: VerdictWord) -> Html:
    y = _y(lane)
    path = el("path", d=f"M{x} {y - 11}l11 11-11 11-11-11z")
    sign = el("text", SYMBOLS[verdict], x=x, y=y + 4, text_anchor="middle")
    return el("g", el("title", text), path, sign, class_=f"gate {verdict}")


def _people(report: Report, scale: _Scale) -> Iterable[Html]:
    labelled_to = float(_LEFT)
    for each in report.decisions:
        x, y = scale.x(each.at), _y(0)
        text = f"{clock_text(each.at)} {each.actor}: {each.verb}, {each.status} {each.code}{_reason(each.reason)}"
        refused = "" if each.status == "ok" else " refused"
        yield el("circle", el("title", text), cx=x, cy=y, r=5, class_=f"person{refused}")
        is_right = x + 8 + _LABEL_WIDTH <= _WIDTH
        if is_right and x >= labelled_to - 4:
            labelled_to = x + 16 + _LABEL_WIDTH
            yield el("text", f"{each.verb} · {each.actor}"[:18], x=x + 9, y=y + 4, class_="beside")


def _reason(reason: str) -> str:
    return f" ({reason})" if reason else ""


def legend() -> Html:
    """Return what the shapes mean."""
    bars = (("progressing", "progressing"), ("soaking", "soaking"), ("waiting", "waiting for a person"),
            ("rolling_back", "rolling back"), ("frozen", "frozen"))  # fmt: skip
    shown = [el("span", el("i", class_=f"swatch {kind}"), text) for kind, text in bars]
    gates = [
        el("span", el("b", symbol, class_=f"mark {verdict}"), f"gate {verdict}") for verdict, symbol in SYMBOLS.items()
    ]
    return el("p", *shown, *gates, class_="legend")


def stacked_bar(counts: list[tuple[str, int]]) -> Html:
    """Return one bar in which each part is as wide as its share; parts are kinds of ``progress`` with how many."""
    total, x = max(1, sum(count for _, count in counts)), 0.0
    parts: list[Html] = []
    for kind, count in counts:
        width = round(count * _WIDTH / total, 1)
        title = el("title", f"{count_text(count, 'device')} {kind}")
        parts.append(el("rect", title, x=round(x, 1), y=0, width=width, height=22, class_=f"p-{kind}"))
        x += width
    return el("svg", join(parts), viewBox=f"0 0 {_WIDTH} 22", class_="stack", role="img", preserveAspectRatio="none")


_HATCH: Final = el(
    "defs",
    el(
        "pattern",
        el("rect", width=8, height=8, class_="hatch-back"),
        el("line", x1=0, y1=0, x2=0, y2=8, class_="hatch-line"),
        id="hatch", width=8, height=8, patternUnits="userSpaceOnUse", patternTransform="rotate(45)",
    ),
)  # fmt: skip
