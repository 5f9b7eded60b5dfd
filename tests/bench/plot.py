# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two kinds of plots as SVG, for report: lines on logarithmic axes, and ratios beside their targets."""

import math
from html import escape

COLORS = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b9770e", "#34495e"]
WIDTH = 760


class Svg:
    def __init__(self, height, title):
        self.height = height
        self.parts = [f'<text x="16" y="26" font-size="15" font-weight="bold">{escape(title)}</text>']

    def text(self, x, y, text, anchor="start", color="#222"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, color="#ddd", width=1.0):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
                          f'stroke-width="{width}"/>')

    def dot(self, x, y, color, radius=3.5, opacity=1.0):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}" fill-opacity="{opacity}"/>')

    def path(self, points, color):
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{text}" fill="none" stroke="{color}" stroke-width="2"/>')

    def write(self, path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
                       'font-family="sans-serif" font-size="12">\n'
                       f'<rect width="{WIDTH}" height="{self.height}" fill="white"/>\n')
            file.write("\n".join(self.parts) + "\n</svg>\n")


class Axis:
    """A logarithmic one, from one power of ten to another."""

    def __init__(self, values, begin, end):
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.begin, self.end = begin, end

    def at(self, value):
        return self.begin + (math.log10(value) - self.low) / (self.high - self.low) * (self.end - self.begin)

    def decades(self):
        return [10.0 ** n for n in range(self.low, self.high + 1)]


def number(value):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def slope(points):
    """The power of the number that the cost grows with: least squares of the logarithms."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    below = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / below if below else 0.0


def slopes(points):
    """What is the same for all sizes hides growth at first: the end tells most."""
    return f"slope {slope(points):.2f}, at the end {slope(points[-2:]):.2f}"


def lines(path, title, unit, series):
    """series: name -> [(licenses, value)]"""
    top, bottom = 48, 340
    svg = Svg(bottom + 52 + 20 * len(series), title)
    points = [point for values in series.values() for point in values]
    x_axis = Axis([x for x, _ in points], 90, WIDTH - 30)
    y_axis = Axis([y for _, y in points], bottom, top)
    for value in x_axis.decades():
        svg.line(x_axis.at(value), top, x_axis.at(value), bottom)
        svg.text(x_axis.at(value), bottom + 18, number(value), "middle")
    for value in y_axis.decades():
        svg.line(90, y_axis.at(value), WIDTH - 30, y_axis.at(value))
        svg.text(82, y_axis.at(value) + 4, number(value), "end")
    svg.text(16, top - 6, unit)
    svg.text(WIDTH - 30, bottom + 34, "licenses", "end")
    for i, (name, values) in enumerate(series.items()):
        color, place = COLORS[i % len(COLORS)], [(x_axis.at(x), y_axis.at(y)) for x, y in values]
        svg.path(place, color)
        for x, y in place:
            svg.dot(x, y, color)
        svg.line(90, bottom + 52 + 20 * i, 120, bottom + 52 + 20 * i, color, 2)
        svg.text(128, bottom + 56 + 20 * i, f"{name}: {slopes(values)}")
    svg.write(path)


def ratios(path, title, rows):
    """rows: (name, [ratio of each round], median, target or None, met)"""
    svg = Svg(70 + 38 * len(rows), title)
    values = [value for _, rounds, _, target, _ in rows for value in rounds + ([target] if target else [])]
    axis = Axis(values, 30, WIDTH - 30)
    for value in axis.decades():
        svg.line(axis.at(value), 44, axis.at(value), 48 + 38 * len(rows), "#bbb" if value == 1 else "#ddd")
        svg.text(axis.at(value), 62 + 38 * len(rows), f"{number(value)} ×", "middle")
    for i, (name, rounds, median, target, met) in enumerate(rows):
        y = 74 + 38 * i
        svg.text(30, y - 14, f"{name}: {median:.2f} ×")
        for value in rounds:
            svg.dot(axis.at(value), y, "#888", 3, 0.5)
        if target:
            svg.line(axis.at(target), y - 9, axis.at(target), y + 9, "#222", 2)
        svg.dot(axis.at(median), y, "#2e8b57" if met else "#c0392b", 5)
    svg.write(path)
