"""plot.py GROWTH.json PICTURE.png: what calls cost with more and more guests, one curve each, with the straight line of
the first and the last point of it beside: a curve below its line grows slower than the guests do."""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(source, picture):
    with open(source) as file:
        points = json.load(file)
    guests = [point["guests"] for point in points]
    names = list(points[0]["costs"])
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names):
        costs = [point["costs"][name] for point in points]
        axis.plot([guests[0], guests[-1]], [costs[0], costs[-1]], ":", color="0.6")
        axis.plot(guests, costs, "o-", color="#1f5fa8")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("guests")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


main(*sys.argv[1:])
