"""One small plot for each check: what was observed against its limit and its baseline, evaluation by evaluation."""

from collections.abc import Iterable, Sequence
from typing import Final

from orchestrator.reporting.markup import Html, el, join
from orchestrator.reporting.model import Point, Report, Series
from orchestrator.reporting.words import clock_text, count_text, moment_text, value_text

POINTS_MAX: Final = 120
"""Of a longer series the last ones are drawn."""
_WIDTH: Final = 340
_HEIGHT: Final = 180
_LEFT: Final = 14
_RIGHT: Final = 14
_TOP: Final = 24
_BOTTOM: Final = 26
_ROOM: Final = 1.18
_LABEL_HEIGHT: Final = 13


class _Frame:
    """Moments and values to x and y."""

    def __init__(self, points: Sequence[Point], *, must_be_high: bool) -> None:
        values = [value for each in points for value in (each.observed, each.limit, each.baseline) if value is not None]
        highest, lowest = max(values, default=1.0), min(values, default=0.0)
        self.low = max(0.0, lowest - max(highest - lowest, highest * 0.15)) if must_be_high else min(0.0, lowest)
        self.high = self.low + (max(highest - self.low, 1e-9) * _ROOM if highest > self.low else 1.0)
        self._start, self._end = points[0].at, points[-1].at

    def x(self, at: float) -> float:
        """Return the place of a moment; one alone stands in the middle."""
        left, width = _LEFT + 10, _WIDTH - _LEFT - _RIGHT - 20
        share = (at - self._start) / (self._end - self._start) if self._end > self._start else 0.5
        return round(left + share * width, 1)

    def y(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def plot(report: Report, series: Series) -> Html:
    """Return the figure of one check, with its last numbers in words below."""
    points, last = series.points[-POINTS_MAX:], series.points[-1]
    must_be_high = ">" in series.limit_expr and not _is_trigger(report, series)
    frame = _Frame(points, must_be_high=must_be_high)
    drawn = [
        *_forbidden(points, frame, must_be_high=must_be_high),
        _line([(each.at, each.baseline) for each in points], frame, "baseline"),
        _line([(each.at, each.limit) for each in points], frame, "limit"),
        _line([(each.at, each.observed) for each in points], frame, "observed"),
        *(_mark(series, each, frame) for each in points),
        *_labels(series, last, frame, must_be_high=must_be_high),
        el("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=_HEIGHT - _BOTTOM, y2=_HEIGHT - _BOTTOM, class_="axis-line"),
        *_times(points, frame),
    ]
    said = f"observed {value_text(series.limit_expr, last.observed)}, limit {value_text(series.limit_expr, last.limit)}"
    picture = el(
        "svg", el("title", f"{series.check}: {said} in the last of {count_text(len(series.points), 'evaluation')}"),
        join(drawn), viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", class_="plot",
    )  # fmt: skip
    caption = el(
        "figcaption", el("b", series.check), " ", el("span", last.verdict, class_=f"tag {last.verdict}"),
        el("br"), el("code", series.limit_expr), el("br"), f"{said}, {count_text(last.samples, 'sample')}",
    )  # fmt: skip
    return el("figure", caption, picture)


def _is_trigger(report: Report, series: Series) -> bool:
    """A trigger says what must not happen, a check what must hold."""
    return any(series.check == each.trigger for each in report.rollbacks)


def _forbidden(points: Sequence[Point], frame: _Frame, *, must_be_high: bool) -> Iterable[Html]:
    """Shade where the last limit would be broken."""
    limit = points[-1].limit
    if limit is None:
        return
    y, bottom = frame.y(limit), _HEIGHT - _BOTTOM
    top, height = (y, bottom - y) if must_be_high else (_TOP - 10, y - _TOP + 10)
    if height > 0:
        yield el("rect", x=_LEFT, y=top, width=_WIDTH - _LEFT - _RIGHT, height=round(height, 1), class_="forbidden")


def _line(values: Sequence[tuple[float, float | None]], frame: _Frame, kind: str) -> Html:
    """Draw known values; limit and baseline run through the whole picture."""
    known = [(frame.x(at), frame.y(value)) for at, value in values if value is not None]
    if not known:
        return Html("")
    if kind != "observed":
        known = [(_LEFT, known[0][1]), *known, (_WIDTH - _RIGHT, known[-1][1])]
    return el("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in known), class_=kind)


def _mark(series: Series, point: Point, frame: _Frame) -> Html:
    """Draw an evaluation: a dot, cross, triangle or ring by its verdict; what was not observed lies at the foot."""
    x = frame.x(point.at)
    y = frame.y(point.observed) if point.observed is not None else _HEIGHT - _BOTTOM
    observed, limit = (value_text(series.limit_expr, value) for value in (point.observed, point.limit))
    text = f"{moment_text(point.at)}: {observed}, limit {limit}, {count_text(point.samples, 'sample')}: {point.verdict}"
    shape = {
        "pass": f"M{x - 4} {y}a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
        "fail": f"M{x - 5} {y - 5}l10 10m0-10l-10 10",
        "caution": f"M{x} {y - 5}l5 9h-10z",
        "inconclusive": f"M{x - 4} {y}a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    }[point.verdict]
    return el("path", el("title", text), d=shape, class_=f"point {point.verdict}")


def _labels(series: Series, last: Point, frame: _Frame, *, must_be_high: bool) -> Iterable[Html]:
    """Name the limit on the side that is forbidden, and the baseline where there is room."""
    limit_y = None if last.limit is None else frame.y(last.limit)
    if limit_y is not None:
        beside = limit_y + 13 if must_be_high else limit_y - 5
        yield _label(f"limit {value_text(series.limit_expr, last.limit)}", beside, "limit")
    if last.baseline is not None:
        y = frame.y(last.baseline)
        is_crowded = limit_y is not None and abs(limit_y - y) < 2 * _LABEL_HEIGHT
        is_low = y + _LABEL_HEIGHT > _HEIGHT - _BOTTOM and not is_crowded
        beside = y - 4 if is_low else y + 12
        yield _label(f"baseline {value_text(series.limit_expr, last.baseline)}", beside, "baseline")


def _label(text: str, y: float, kind: str) -> Html:
    return el("text", text, x=_LEFT + 4, y=round(y, 1), class_=f"label {kind}")


def _times(points: Sequence[Point], frame: _Frame) -> Iterable[Html]:
    first, last = points[0].at, points[-1].at
    if first == last:
        yield el("text", clock_text(first), x=frame.x(first), y=_HEIGHT - 8, class_="axis", text_anchor="middle")
        return
    yield el("text", clock_text(first), x=_LEFT, y=_HEIGHT - 8, class_="axis")
    yield el("text", clock_text(last), x=_WIDTH - _RIGHT, y=_HEIGHT - 8, class_="axis", text_anchor="end")
