#!/usr/bin/env python3
"""Plots of `mambad bench --json` as SVG, with the standard library alone.

    mambad bench --model M --batch 1,8,64 --json > bench.jsonl        (any number of runs, models and lengths)
    python3 kernels/bench/plot_bench.py bench.jsonl OUT_DIR

writes OUT_DIR/tokens_by_batch.svg         decode tokens/s against the batch, a line per model
       OUT_DIR/latency_by_position.svg     decode ms a step against the position (prompt_tokens), a line per model and batch
Runs of one model that differ in device, precision or state_dtype are lines of their own; of equal points the last counts.
"""
import json
import math
import os
import sys
from collections import defaultdict
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 780, 440, 80, 60, 40, 230
COLORS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"]


def read(path):
    lines = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError as error:
                sys.exit(f"{path}:{number}: not a line of mambad bench --json: {error}")
    return lines


def names(lines):
    """A name for each line: the model, and what tells runs apart that the file has several of."""
    differing = [key for key in ("device", "precision", "state_dtype") if len({line.get(key) for line in lines}) > 1]
    # "state bf16", beside the precision of the weights.
    words = {"state_dtype": "state {}"}
    return [" ".join([os.path.basename(line["model"].removeprefix("shape:").rstrip("/"))] +
                     [words.get(key, "{}").format(line.get(key)) for key in differing]) for line in lines]


def ticks(low, high):
    """Powers of ten, and their double and half where they are few, from low to high."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    marks = [m * 10.0**e for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1) for m in steps]
    return [mark for mark in marks if low <= mark * 1.0001 and mark <= high * 1.0001]


def even_ticks(high):
    """From zero to high: about six multiples of 1, 2 or 5 times a power of ten."""
    step = next(m * 10.0**e for e in range(-9, 12) for m in (1, 2, 5) if high / (m * 10.0**e) <= 7)
    return [step * i for i in range(int(high / step) + 1)]


def svg(title, x_label, y_label, lines, flat):
    """lines: name -> [(x, y)], both positive. flat: y from zero, not logarithmic."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) * 1.01)
    y_low, y_high = (0, 1.2 * max(ys)) if flat else (min(ys) / 1.3, max(ys) * 1.3)

    def at_x(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(x / x_low) / math.log(x_high / x_low)

    def at_y(y):
        share = (y - y_low) / (y_high - y_low) if flat else math.log(y / y_low) / math.log(y_high / y_low)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
           f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 15}" text-anchor="middle">{x_label}</text>',
           f'<text x="18" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2})">{y_label}</text>']
    for mark in ticks(x_low, x_high):
        x = at_x(mark)
        out.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>'
                   f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{mark:,.10g}</text>')
    for mark in even_ticks(y_high) if flat else ticks(y_low, y_high):
        y = at_y(mark)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:,.10g}</text>')
    for i, (name, points) in enumerate(lines.items()):
        color = COLORS[i % len(COLORS)]
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in sorted(points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        out += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{color}"/>' for x, y in points]
        out.append(f'<text x="{WIDTH - RIGHT + 10}" y="{TOP + 12 + 18 * i}" fill="{color}">{escape(name)}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    by_batch, by_position = defaultdict(dict), defaultdict(dict)
    lines = read(sys.argv[1])
    for model, line in sorted(zip(names(lines), lines), key=lambda each: (each[0], each[1]["batch"])):
        by_batch[model][line["batch"]] = line["decode_tokens_per_s"]
        by_position[f'{model}, batch {line["batch"]}'][line["prompt_tokens"]] = line["decode_step_ms_p50"]
    os.makedirs(sys.argv[2], exist_ok=True)
    for name, title, labels, lines, flat in (
            ("tokens_by_batch", "Decode throughput", ("batch", "tokens/s"), by_batch, False),
            ("latency_by_position", "Time of a decode step", ("position", "ms"), by_position, True)):
        several = {key: list(points.items()) for key, points in lines.items() if len(points) > 1}
        if not several:
            print(f"{name}: nothing to draw: no line has two points")
            continue
        path = os.path.join(sys.argv[2], name + ".svg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(svg(title, *labels, several, flat))
        print(path)


if __name__ == "__main__":
    main()
