"""Draws the dashboard as an HTML page from a Prometheus, where no Grafana is at hand.

Usage: render.py PROMETHEUS END DASHBOARD OUT.html [ROW...]

END is in Unix seconds. Closed rows are drawn open where ROW has their title; of a repeated row, only these are drawn. The
page shows what Grafana would make of the dashboard's JSON: its tables keep each label, the metric's name too, and `merge`
joins rows only where all common fields are equal. What the JSON has beyond that (links, tooltips) is not drawn.
"""

import json
import pathlib
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from html import escape

import plot
from common import field_of, nothing, substituted
from tables import table
from units import color_at, shown

WIDTH, UNIT, GAP = 1400, 30, 8
COLUMN = (WIDTH - GAP) / 24
STYLE = """
body { margin: 0; background: #111217; color: #ccccdc; font: 13px/1.45 Inter, 'DejaVu Sans', sans-serif; position: relative }
.panel { position: absolute; box-sizing: border-box; background: #181b1f; border: 1px solid #2a2c32; border-radius: 2px; overflow: hidden }
.panel h2 { font-size: 13px; font-weight: 500; margin: 0; padding: 6px 8px; height: 18px; white-space: nowrap }
.row { position: absolute; font-size: 15px; font-weight: 500; left: 12px }
.stat { display: flex; justify-content: center; align-items: center; height: calc(100% - 42px); font-weight: 500; white-space: nowrap }
.none { color: #8e8e99 }
table { border-collapse: collapse; width: 100%; font-size: 12px }
th { text-align: left; color: #6e9fff; font-weight: 500 } th, td { padding: 0 8px; height: 26px; border-bottom: 1px solid #25272c; white-space: nowrap }
td.number, th.number { text-align: right }
.gauge { display: flex; min-width: 240px; align-items: center; gap: 8px } .gauge i { flex: 1; height: 14px; background: #22252b } .gauge i b { display: block; height: 14px }
.gauge span { width: 52px; text-align: right }
.legend { font-size: 11px } .legend td, .legend th { height: 19px; border: 0 } .legend i { display: inline-block; width: 14px; height: 4px; margin-right: 6px; vertical-align: middle }
svg text { font: 10.5px Inter, 'DejaVu Sans', sans-serif; fill: #9c9ca8 }
"""


class Source:
    """Answers the queries of the dashboard's panels for its whole time range or at its end."""

    def __init__(self, url, end, days=30, step=1800):
        self.url, self.end, self.start, self.step = url, end, end - days * 86400, step

    def ask(self, path, **form):
        body = urllib.parse.urlencode(form).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", body, timeout=120) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.read().decode()}: {form['query']}") from error

    def instant(self, expr):
        return [(one["metric"], float(one["value"][1])) for one in self.ask("query", query=expr, time=self.end)]

    def range(self, expr, step=None):
        step = step or self.step
        start = self.start - self.start % step
        result = self.ask("query_range", query=expr, start=start, end=self.end, step=step)
        return [(one["metric"], [(time, float(value)) for time, value in one["values"]]) for one in result]


def variables_of(dashboard, source):
    """All values of each variable, as the pattern that Grafana makes of the choice of all; and the accounts' own."""
    found = {"__rate_interval": f"{source.step + 300}s"}
    values = {}
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", one["definition"]).groups()
            seen = source.range(f"count by ({label}) ({substituted(metric, found)})")
            values[one["name"]] = sorted({labels[label] for labels, _ in seen if label in labels})
            found[one["name"]] = "(" + "|".join(re.escape(each).replace("\\", "\\\\") for each in values[one["name"]]) + ")" if values[one["name"]] else ".*"
    return found, values


def stat(panel, source, variables, _):
    result = [value for target in panel["targets"] for _, value in source.instant(substituted(target["expr"], variables))]
    if not result:
        return nothing(panel)
    field, parts = field_of(panel, "Value"), []
    for value in result:
        text = shown(value, field)
        # As large as the panel's width allows.
        size = min(38, panel["gridPos"]["w"] * COLUMN / (0.75 * len(text) + 1))
        parts.append(f'<div class="stat" style="color:{color_at(value, field)};font-size:{size:.0f}px">{escape(text)}</div>')
    return "".join(parts)


def curves(panel, source, variables):
    for target in panel["targets"]:
        for labels, points in source.range(substituted(target["expr"], variables)):
            title = re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), target["legendFormat"])
            yield title, [(time, value) for time, value in points if abs(value) < float("inf")], field_of(panel, title, title)


def drawn(kind):
    def draw(panel, source, variables, marks):
        series = list(curves(panel, source, variables))
        width, height = round(panel["gridPos"]["w"] * COLUMN - GAP - 2), panel["gridPos"]["h"] * (UNIT + GAP) - GAP - 32
        if not series:
            return nothing(panel)
        return kind(panel, series, (source.start, source.end, source.step), marks, width, height)

    return draw


KINDS = {"stat": stat, "table": table, "timeseries": drawn(plot.graph), "state-timeline": drawn(plot.timeline)}


def marks_of(dashboard, source, variables):
    """(color, from, to) of each annotation."""
    for one in dashboard["annotations"]["list"]:
        for _, points in source.range(substituted(one["expr"], variables), step=300):
            times = sorted({value / 1000 for _, value in points}) if one["useValueForTime"] else [time for time, _ in points]
            begin = last = None
            for time in [*times, None]:
                if begin is not None and (time is None or one["useValueForTime"] or time - last > 300):
                    yield one["iconColor"], begin, last
                    begin = None
                begin, last = time if begin is None else begin, time


def rows_of(dashboard, opened, values):
    """(title, row, panels, further variables) of each row that is drawn."""
    rows = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            rows.append((panel, list(panel["panels"])))
        else:
            rows[-1][1].append(panel)
    for row, panels in rows:
        name = row.get("repeat")
        for value in values[name] if name else [None]:
            chosen = {name: value} if name else {}
            title = substituted(row["title"], chosen)
            if title in opened or not name:
                yield title, row, [] if row["collapsed"] and title not in opened else panels, chosen


def render(url, end, dashboard, opened=()):
    """The page and its height."""
    source = Source(url, end)
    variables, values = variables_of(dashboard, source)
    marks = [one for one in marks_of(dashboard, source, variables) if one[2] >= source.start]
    parts, top = [], GAP
    for title, row, panels, chosen in rows_of(dashboard, opened, values):
        parts.append(f'<div class="row" style="top:{top}px">{"⌄" if panels else "›"}&nbsp; {escape(title)}</div>')
        top += UNIT + GAP
        first = min((panel["gridPos"]["y"] for panel in panels), default=0)
        for panel in panels:
            grid = panel["gridPos"]
            place = f"left:{GAP + grid['x'] * COLUMN:.0f}px;top:{top + (grid['y'] - first) * (UNIT + GAP)}px;width:{grid['w'] * COLUMN - GAP:.0f}px;height:{grid['h'] * (UNIT + GAP) - GAP}px"
            content = KINDS[panel["type"]](panel, source, variables | chosen, marks)
            parts.append(f'<div class="panel" style="{place}"><h2>{escape(panel["title"])}</h2>{content}</div>')
        top += max((panel["gridPos"]["y"] - first + panel["gridPos"]["h"] for panel in panels), default=0) * (UNIT + GAP)
    return f'<!doctype html><meta charset="utf-8"><title>{escape(dashboard["title"])}</title><style>{STYLE}</style><body style="height:{top}px">{"".join(parts)}', top


def main():
    url, end, path, out, *opened = sys.argv[1:]
    page, height = render(url, int(end), json.loads(pathlib.Path(path).read_text()), opened)
    pathlib.Path(out).write_text(page)
    print(f"{out}: {WIDTH} x {height}")


if __name__ == "__main__":
    main()
