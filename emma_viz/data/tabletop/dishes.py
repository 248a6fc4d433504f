"""How the things of the kitchen look: one function a kind, each draws on a Pen in a given colour."""

import math

from emma_viz.data.tabletop.pen import CLEAR, RGB, Pen, shade

METAL: RGB = (206, 210, 216)


def cup(pen: Pen, c: RGB) -> None:
    pen.oval(74, 52, 17, 17, None, edge=shade(c, 0.75), width=8)
    pen.shape([(12, 26), (72, 26), (65, 84), (19, 84)], c)
    pen.oval(42, 84, 23, 7, c)
    pen.shape([(54, 28), (72, 26), (65, 84), (54, 88)], shade(c, 0.82))
    pen.oval(42, 26, 31, 11, shade(c, 1.35), edge=shade(c, 0.7), width=2)
    pen.oval(42, 27, 25, 7.5, (92, 56, 34))


def plate(pen: Pen, c: RGB) -> None:
    pen.oval(50, 50, 47, 47, c, edge=shade(c, 0.68), width=3)
    pen.oval(50, 50, 39, 39, shade(c, 1.28))
    pen.oval(50, 50, 30, 30, shade(c, 0.92), edge=shade(c, 0.78), width=2)


def bowl(pen: Pen, c: RGB) -> None:
    pen.slice(50, 42, 46, 46, 0, 180, c)
    pen.slice(50, 42, 46, 46, 0, 75, shade(c, 0.8))
    pen.box(34, 82, 66, 92, shade(c, 0.7), radius=3)
    pen.oval(50, 42, 47, 14, shade(c, 1.3), edge=shade(c, 0.7), width=2.5)
    pen.oval(50, 43, 39, 9, shade(c, 0.6))


def bottle(pen: Pen, c: RGB) -> None:
    pen.box(30, 40, 70, 97, c, edge=shade(c, 0.7), radius=10)
    pen.shape([(34, 46), (42, 24), (58, 24), (66, 46)], c)
    pen.box(42, 12, 58, 34, c)
    pen.box(40, 4, 60, 15, shade(c, 0.55), radius=3)
    pen.box(31.5, 55, 68.5, 79, (250, 246, 232))
    pen.box(36, 62, 64, 66, shade(c, 0.8))
    pen.box(36, 70, 56, 73, shade(c, 0.8))
    pen.stroke([(38, 46), (38, 52)], shade(c, 1.6), 3.5)


def teapot(pen: Pen, c: RGB) -> None:
    pen.arc(76, 56, 20, 20, 250, 110, shade(c, 0.75), 7)
    pen.shape([(28, 72), (2, 36), (12, 32), (38, 52)], shade(c, 0.85))
    pen.oval(52, 60, 32, 29, c, edge=shade(c, 0.72), width=2.5)
    pen.oval(42, 50, 10, 8, shade(c, 1.45))
    pen.slice(52, 37, 20, 12, 180, 360, shade(c, 0.78))
    pen.oval(52, 22, 6, 6, shade(c, 0.6))
    pen.box(36, 86, 68, 92, shade(c, 0.65), radius=3)


def spoon(pen: Pen, c: RGB) -> None:
    pen.stroke([(50, 46), (50, 94)], shade(c, 0.85), 8)
    pen.oval(50, 25, 17, 22, c, edge=shade(c, 0.66), width=3)
    pen.oval(50, 24, 9, 14, shade(c, 0.78))


def fork(pen: Pen, c: RGB) -> None:
    pen.stroke([(50, 50), (50, 94)], shade(c, 0.9), 8)
    pen.shape([(31, 34), (69, 34), (62, 52), (38, 52)], c)
    for x in (33, 44.4, 55.6, 67):
        pen.stroke([(x, 8), (x, 38)], c, 5.5)
    pen.stroke([(38, 50), (50, 58), (62, 50)], shade(c, 0.72), 3)


def knife(pen: Pen, c: RGB) -> None:
    pen.shape([(42, 4), (55, 14), (60, 30), (60, 58), (42, 58)], METAL, edge=shade(METAL, 0.66), width=2)
    pen.stroke([(47, 12), (47, 54)], shade(METAL, 1.6), 3)
    pen.box(40, 57, 61, 97, c, edge=shade(c, 0.65), radius=6, width=3)
    pen.oval(50.5, 68, 2.6, 2.6, shade(c, 1.7))
    pen.oval(50.5, 84, 2.6, 2.6, shade(c, 1.7))


def pizza(pen: Pen, c: RGB) -> None:
    pen.oval(50, 50, 47, 47, (214, 150, 76), edge=(158, 98, 44), width=2.5)
    pen.oval(50, 50, 39, 39, (250, 205, 92), edge=(232, 128, 48), width=3)
    for x, y in ((36, 34), (62, 30), (70, 55), (48, 54), (30, 60), (56, 74)):
        pen.oval(x, y, 8, 8, (204, 48, 36), edge=(158, 30, 24), width=1.5)
    for x, y in ((48, 22), (24, 46), (60, 44), (42, 70), (70, 70)):
        pen.oval(x, y, 3.4, 2.4, (58, 132, 52))


def cake(pen: Pen, c: RGB) -> None:
    pen.oval(50, 88, 47, 9, (232, 232, 236), edge=(168, 168, 176), width=2)
    pen.box(12, 40, 88, 88, (232, 186, 122), radius=5)
    pen.box(12, 60, 88, 68, (252, 244, 226))
    pen.box(12, 30, 88, 48, c, radius=8)
    for x in (20, 36, 52, 68, 81):
        pen.stroke([(x, 44), (x, 50 + (x % 7))], c, 9)
    pen.oval(50, 31, 38, 9, shade(c, 1.3), edge=shade(c, 0.75), width=2)
    pen.oval(50, 20, 9, 9, (206, 24, 52), edge=(140, 10, 30), width=1.5)
    pen.arc(58, 12, 10, 10, 180, 280, (70, 120, 50), 2)


def donut(pen: Pen, c: RGB) -> None:
    pen.oval(50, 50, 47, 47, (206, 150, 88), edge=(150, 100, 50), width=2.5)
    pen.oval(50, 50, 41, 41, c, edge=shade(c, 0.75), width=2.5)
    tints = ((255, 255, 255), (70, 120, 220), (250, 220, 60), (220, 50, 60))
    for i in range(12):
        a = i * math.tau / 12 + 0.2
        x, y = 50 + 29 * math.cos(a), 50 + 29 * math.sin(a)
        dx, dy = 3.4 * math.cos(2.3 * i), 3.4 * math.sin(2.3 * i)
        pen.stroke([(x - dx, y - dy), (x + dx, y + dy)], tints[i % 4], 2.6)
    pen.oval(50, 50, 16, 16, (206, 150, 88))
    pen.oval(50, 50, 12.5, 12.5, CLEAR)


def apple(pen: Pen, c: RGB) -> None:
    pen.oval(36, 58, 28, 34, c)
    pen.oval(64, 58, 28, 34, c)
    pen.shape([(30, 86), (70, 86), (50, 94)], c)
    pen.oval(64, 62, 20, 27, shade(c, 0.9))
    pen.oval(30, 46, 7, 10, shade(c, 1.5))
    pen.stroke([(50, 32), (53, 9)], (96, 62, 36), 5)
    pen.shape([(54, 20), (66, 7), (84, 9), (72, 22)], (78, 160, 66), edge=(48, 110, 44), width=1.5)


def banana(pen: Pen, c: RGB) -> None:
    outer = [(50 + 46 * math.cos(t), 22 + 62 * math.sin(t)) for t in _steps(0.04, 3.1)]
    inner = [(52 + 36 * math.cos(t), 14 + 34 * math.sin(t)) for t in _steps(3.0, 0.14)]
    pen.shape([*outer, *inner], c, edge=shade(c, 0.66), width=2.5)
    pen.stroke([(51 + 41 * math.cos(t), 18 + 49 * math.sin(t)) for t in _steps(0.3, 2.8)], shade(c, 0.84), 3)
    pen.stroke([(95, 25), (94, 12)], (112, 84, 40), 7)
    pen.oval(7, 24, 4, 4, (92, 70, 40))


def _steps(start: float, end: float, n: int = 24) -> list[float]:
    return [start + (end - start) * i / (n - 1) for i in range(n)]
