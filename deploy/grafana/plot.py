"""Time series and state timelines as SVG."""

import datetime
import math
from html import escape

from units import COLORS, color_at, in_unit, shown

PALETTE = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a", "#447ebc", "#c15c17"]
LEFT, BOTTOM, LEGEND_PART, LINE = 62, 18, 0.35, 19


def ticks(low, high, binary, count=5):
    """Round values in between; those of binary units are powers of two of them."""
    span = (high - low) or abs(high) or 1
    unit = 1024 ** max(math.floor(math.log(span, 1024)), 0) if binary else 1
    rough = span / unit / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if rough <= factor * power) * unit
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def days(begin, end, every):
    time = begin - begin % 86400 + 86400
    while time < end:
        yield time, f"{datetime.datetime.fromtimestamp(time, datetime.UTC):%m/%d}"
        time += every * 86400


def frame(begin, end, width, height, left=LEFT):
    """The place of a time, and the axis of time."""

    def across(time):
        return left + (time - begin) / (end - begin) * (width - left - 12)

    axis = "".join(
        f'<path d="M{across(time):.1f} 6V{height - BOTTOM}" stroke="#2a2c32"/><text x="{across(time):.1f}" y="{height - 4}" text-anchor="middle">{text}</text>'
        for time, text in days(begin, end, 3 if width > 500 else 6)
    )
    return across, axis


def path(points, across, up, step):
    """A line that has a gap where points are missing."""
    drawn, last = [], None
    for time, value in points:
        drawn.append(f"{'M' if last is None or time - last > step else 'L'}{across(time):.1f} {up(value):.1f}")
        last = time
    return "".join(drawn)


def stacked(series):
    total = {}
    for title, points, field in series:
        yield title, [(time, total.setdefault(time, 0) + value) for time, value in points], field
        for time, value in points:
            total[time] += value


def graph(panel, series, times, marks, width, height):
    begin, end, step = times
    lines = min(len(series) + 1, max(int(height * LEGEND_PART / LINE), 2))
    plot = height - lines * LINE
    defaults = panel["fieldConfig"]["defaults"]
    curves = list(stacked(series)) if defaults["custom"]["stacking"]["mode"] == "normal" else series
    values = [value for _, points, _ in curves for _, value in points]
    scale = ticks(min([*values, defaults.get("min", math.inf)]), max(values), defaults["unit"] == "bytes")
    across, axis = frame(begin, end, width, plot)

    def up(value):
        return plot - BOTTOM - (value - scale[0]) / (scale[-1] - scale[0]) * (plot - BOTTOM - 8)

    parts = [axis]
    for tick in scale:
        text = escape(in_unit(tick, defaults["unit"], defaults.get("decimals")))
        parts.append(f'<path d="M{LEFT} {up(tick):.1f}H{width - 12}" stroke="#2a2c32"/><text x="{LEFT - 6}" y="{up(tick) + 3.5:.1f}" text-anchor="end">{text}</text>')
    for color, since, until in marks:
        if until >= begin:
            left, right = across(max(since, begin)), across(until)
            parts.append(f'<rect x="{left:.1f}" y="6" width="{max(right - left, 0):.1f}" height="{plot - BOTTOM - 6}" fill="{COLORS[color]}" opacity="0.07"/>')
            parts.append(f'<path d="M{left:.1f} 6V{plot - BOTTOM}" stroke="{COLORS[color]}" stroke-dasharray="3 3" opacity="0.6"/><path d="M{left - 3:.1f} {plot - BOTTOM + 5}h6l-3 -5z" fill="{COLORS[color]}"/>')
    if defaults["custom"]["thresholdsStyle"]["mode"] == "line":
        for each in defaults["thresholds"]["steps"]:
            if each["value"] is not None and scale[0] <= each["value"] <= scale[-1]:
                parts.append(f'<path d="M{LEFT} {up(each["value"]):.1f}H{width - 12}" stroke="{COLORS[each["color"]]}" opacity="0.7"/>')
    legend = []
    for index, ((title, points, field), (_, own, _)) in enumerate(zip(curves, series)):
        if not points:
            continue
        fixed = field["color"].get("fixedColor")
        color = COLORS[fixed] if fixed else PALETTE[index % len(PALETTE)]
        custom = field["custom"]
        line = path(points, across, up, step)
        if custom["fillOpacity"] and len(curves) < 10:
            for piece in line.split("M")[1:]:
                first, last = piece.split(" ")[0], piece.rsplit("L", 1)[-1].split(" ")[0]
                parts.append(f'<path d="M{piece}L{last} {up(max(scale[0], 0)):.1f}L{first} {up(max(scale[0], 0)):.1f}z" fill="{color}" opacity="{custom["fillOpacity"] / 100}"/>')
        dash = ' stroke-dasharray="9 7"' if "lineStyle" in custom else ""
        parts.append(f'<path d="{line}" fill="none" stroke="{color}" stroke-width="{custom["lineWidth"]}"{dash}/>')
        legend.append((title, color, own[-1][1], max(value for _, value in own), field))
    options = panel["options"]["legend"]
    if "sortBy" in options:
        legend.sort(key=lambda one: one[{"Last *": 2, "Max": 3}[options["sortBy"]]], reverse=options["sortDesc"])
    rows = "".join(
        f'<tr><td><i style="background:{color}"></i>{escape(title)}</td><td class="number">{shown(last, field)}</td><td class="number">{shown(top, field)}</td></tr>'
        for title, color, last, top, field in legend
    )
    head = '<tr><th>Name</th><th class="number">Last *</th><th class="number">Max</th></tr>'
    return f'<svg width="{width}" height="{plot}">{"".join(parts)}</svg><table class="legend">{head}{rows}</table>'


def timeline(panel, series, times, marks, width, height):
    begin, end, step = times
    left = max(len(title) for title, *_ in series) * 6 + 20
    across, axis = frame(begin, end, width, height, left)
    tall = (height - BOTTOM - 6) / len(series)
    parts = [axis]
    for index, (title, points, field) in enumerate(series):
        top, thick = 6 + index * tall + tall * 0.1, tall * panel["options"]["rowHeight"]
        parts.append(f'<text x="{left - 6}" y="{top + thick / 2 + 4:.1f}" text-anchor="end">{escape(title)}</text>')
        for (time, value), (until, _) in zip(points, [*points[1:], (end, 0)]):
            wide = across(min(until, time + step)) - across(time)
            parts.append(f'<rect x="{across(time):.1f}" y="{top:.1f}" width="{wide + 0.3:.2f}" height="{thick:.1f}" fill="{color_at(value, field)}"/>')
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'
