"""Curves as SVG: a line for each server over the cases of a row, with the least and the most of its rounds."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 48
COLOURS = ("#c2255c", "#1971c2", "#2f9e44", "#e8590c", "#7048e8", "#495057")
STEPS = (1, 2, 2.5, 5, 10)

Point = tuple[float, float, float, float]
"""x, median, least and most."""


def curves(title: str, x_label: str, y_label: str, series: Mapping[str, Sequence[Point]]) -> str:
    """A plot with a logarithmic x axis, and a y axis that begins at 0."""
    points = [point for line in series.values() for point in line]
    xs = sorted({point[0] for point in points})
    step = _step(max(point[3] for point in points))
    top = step * math.ceil(max(point[3] for point in points) / step or 1)
    low, span = math.log(xs[0]), math.log(xs[-1] / xs[0]) or 1.0

    def across(x: float) -> float:
        return LEFT + 20 + (math.log(x) - low) / span * (WIDTH - LEFT - RIGHT - 40)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 22, title, size=15, weight="bold")]
    for tick in range(round(top / step) + 1):
        y = up(tick * step)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dee2e6"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{tick * step:g}", anchor="end"))
    parts += [_text(across(x), HEIGHT - BOTTOM + 18, f"{x:,.0f}", anchor="middle") for x in xs]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 10, f"{x_label}; {y_label}", anchor="middle"))
    for place, (name, line) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y, _, _ in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, least, most in line:
            parts.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5" fill="{colour}"/>')
            parts.append(
                f'<path d="M{across(x):.1f} {up(least):.1f}V{up(most):.1f}" stroke="{colour}"/>'
            )
        parts.append(_text(WIDTH - RIGHT + 10, TOP + 14 + 18 * place, name, colour=colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _step(most: float) -> float:
    """The distance of the lines across, so that there are about five."""
    ten = 10 ** math.floor(math.log10(most / 5)) if most else 1.0
    return next(factor * ten for factor in STEPS if factor * ten >= most / 5)


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 12,
    anchor: str = "start",
    colour: str = "#212529",
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        f' fill="{colour}" font-weight="{weight}">{escape(words)}</text>'
    )
