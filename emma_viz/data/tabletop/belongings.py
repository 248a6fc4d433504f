"""How the things of the desk and the hall look: one function a kind, each draws on a Pen in a given colour."""

import math

from emma_viz.data.tabletop.dishes import METAL
from emma_viz.data.tabletop.pen import RGB, Pen, shade

PAPER: RGB = (248, 244, 232)
_INK: RGB = (40, 44, 56)


def candle(pen: Pen, c: RGB) -> None:
    pen.oval(50, 92, 32, 7, shade(METAL, 0.85), edge=shade(METAL, 0.6), width=2)
    pen.box(34, 40, 66, 92, c, edge=shade(c, 0.7), radius=3)
    pen.box(55, 42, 65, 91, shade(c, 0.82), radius=2)
    pen.oval(50, 41, 16, 5, shade(c, 1.35))
    pen.stroke([(50, 40), (50, 30)], _INK, 3)
    pen.shape([(50, 2), (60, 22), (50, 36), (40, 22)], (255, 150, 30))
    pen.oval(50, 24, 9, 11, (255, 176, 40))
    pen.oval(50, 26, 4.5, 7, (255, 244, 160))


def flower(pen: Pen, c: RGB) -> None:
    pen.stroke([(50, 45), (52, 97)], (54, 132, 58), 6)
    pen.shape([(52, 82), (66, 62), (88, 60), (76, 78)], (72, 156, 70), edge=(42, 110, 48), width=1.5)
    for i in range(6):
        a = i * math.tau / 6
        pen.oval(50 + 20 * math.cos(a), 33 + 20 * math.sin(a), 13.5, 13.5, c, edge=shade(c, 0.74), width=2)
    pen.oval(50, 33, 12, 12, (252, 204, 60), edge=(206, 140, 30), width=2)


def book(pen: Pen, c: RGB) -> None:
    pen.box(16, 8, 90, 96, PAPER, edge=(168, 160, 140), radius=3)
    pen.box(12, 4, 84, 90, c, edge=shade(c, 0.66), radius=3)
    pen.box(13, 5, 25, 89, shade(c, 0.72), radius=2)
    pen.box(36, 18, 74, 27, PAPER)
    pen.box(36, 32, 64, 37, PAPER)


def pencil(pen: Pen, c: RGB) -> None:
    pen.box(41, 18, 59, 74, c)
    pen.box(41, 18, 47, 74, shade(c, 1.3))
    pen.box(53, 18, 59, 74, shade(c, 0.76))
    pen.box(41, 12, 59, 19, METAL)
    pen.box(41, 2, 59, 13, (240, 130, 140), radius=4)
    pen.shape([(41, 74), (59, 74), (50, 97)], (236, 198, 150))
    pen.shape([(46.5, 88), (53.5, 88), (50, 98)], _INK)


def laptop(pen: Pen, c: RGB) -> None:
    pen.box(15, 12, 85, 64, c, edge=shade(c, 0.62), radius=4)
    pen.box(20, 17, 80, 59, (120, 190, 232))
    pen.shape([(20, 59), (20, 46), (40, 32), (58, 50), (66, 44), (80, 56), (80, 59)], (70, 150, 92))
    pen.oval(68, 28, 5, 5, (255, 226, 110))
    pen.shape([(15, 64), (85, 64), (97, 86), (3, 86)], shade(c, 0.88), edge=shade(c, 0.6), width=2)
    for y, inset in ((68, 3), (73, 0.5), (78, -2)):
        pen.stroke([(20 + inset, y), (80 - inset, y)], _INK if sum(c) > 220 else (150, 150, 156), 2.6)


def phone(pen: Pen, c: RGB) -> None:
    pen.box(27, 3, 73, 97, c, edge=shade(c, 0.62), radius=8, width=3)
    pen.box(32, 12, 68, 86, (26, 34, 58))
    tints = ((240, 90, 80), (90, 200, 120), (80, 150, 250), (250, 200, 80), (200, 120, 230), (120, 220, 230))
    for i, tint in enumerate(tints):
        x, y = 37 + 15 * (i % 2), 18 + 16 * (i // 2)
        pen.box(x, y, x + 11, y + 11, tint, radius=2.5)
    pen.oval(50, 91.5, 3, 3, shade(c, 0.55))


def lamp(pen: Pen, c: RGB) -> None:
    pen.oval(50, 92, 26, 7, shade(METAL, 0.75), edge=shade(METAL, 0.5), width=2)
    pen.stroke([(50, 50), (50, 90)], shade(METAL, 0.7), 6)
    pen.oval(50, 55, 10, 8, (255, 240, 150))
    pen.shape([(34, 6), (66, 6), (88, 54), (12, 54)], c, edge=shade(c, 0.7))
    pen.shape([(56, 8), (64, 8), (84, 52), (66, 52)], shade(c, 0.8))
    pen.stroke([(30, 18), (18, 50)], shade(c, 1.4), 3)


def clock(pen: Pen, c: RGB) -> None:
    pen.oval(50, 50, 47, 47, c, edge=shade(c, 0.66), width=2.5)
    pen.oval(50, 50, 36, 36, (252, 252, 248), edge=shade(c, 0.7), width=2)
    for i in range(12):
        a = i * math.tau / 12
        inner = 26 if i % 3 == 0 else 29
        ends = [(50 + r * math.cos(a), 50 + r * math.sin(a)) for r in (inner, 32)]
        pen.stroke(ends, _INK, 2.6)
    pen.stroke([(50, 50), (50, 24)], _INK, 4)
    pen.stroke([(50, 50), (67, 58)], _INK, 5)
    pen.oval(50, 50, 4.5, 4.5, (206, 40, 40))


def key(pen: Pen, c: RGB) -> None:
    pen.oval(50, 24, 21, 21, None, edge=c, width=10)
    pen.oval(50, 24, 21, 21, None, edge=shade(c, 0.66), width=2)
    pen.stroke([(50, 45), (50, 94)], c, 9)
    pen.box(50, 70, 72, 78, c)
    pen.box(50, 84, 68, 92, c)
    pen.stroke([(47, 48), (47, 92)], shade(c, 1.4), 2.5)


def hat(pen: Pen, c: RGB) -> None:
    pen.oval(50, 74, 48, 15, shade(c, 0.86), edge=shade(c, 0.62), width=2.5)
    pen.slice(50, 70, 29, 54, 180, 360, c)
    pen.shape([(21, 60), (79, 60), (80, 72), (20, 72)], shade(c, 0.45))
    pen.oval(40, 36, 7, 12, shade(c, 1.35))


def ball(pen: Pen, c: RGB) -> None:
    pen.oval(50, 50, 46, 46, c, edge=shade(c, 0.62), width=3)
    pen.arc(6, 50, 44, 52, 300, 60, PAPER, 8)
    pen.arc(94, 50, 44, 52, 120, 240, PAPER, 8)
    pen.oval(50, 24, 9, 6, shade(c, 1.55))
