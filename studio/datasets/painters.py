"""How each place on a demo tile is painted: noise, cells and light, nothing from a file.

A painter takes a generator and the side in pixels, and gives colours (height, width, 3) from 0 to about 255.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from studio.datasets import noise
from studio.datasets.noise import Field, Generator

Colours = npt.NDArray[np.floating[Any]]
Rgb = tuple[int, int, int]


def _ramp(value: Field, *stops: Rgb) -> Colours:
    """Colours between the stops for values from 0 to 1."""
    places = np.linspace(0, 1, len(stops))
    flat = np.clip(value, 0, 1)
    return np.stack([np.interp(flat, places, [stop[band] for stop in stops]) for band in range(3)], -1)


def _one(colour: Rgb) -> Colours:
    return np.array(colour, np.float32)


def _mix(below: Colours, above: Colours, share: Field) -> Colours:
    return below + (above - below) * share[..., None]


def _pick(rng: Generator, choices: Sequence[tuple[Rgb, ...]]) -> tuple[Rgb, ...]:
    return choices[int(rng.integers(len(choices)))]


def canyon(rng: Generator, size: int) -> Colours:
    height = noise.rough(rng, size, 1.9)
    ridges = 1 - np.abs(noise.rough(rng, size, 1.7))  # ridged noise: sharp crests along its zeros
    relief = 0.6 * height + 0.8 * ridges
    strata = 0.5 + 0.5 * np.sin(relief * rng.uniform(7, 12))
    stops = _pick(
        rng, [((104, 62, 44), (176, 110, 72), (224, 170, 122)), ((110, 84, 62), (170, 138, 104), (216, 190, 154))]
    )
    colours = _ramp(0.5 + 0.28 * relief + 0.16 * strata, *stops)
    return colours * (0.35 + 0.65 * noise.shade(relief, 2.2))[..., None]


def dunes(rng: Generator, size: int) -> Colours:
    x, y = noise.grid(size)
    along, across = noise.turned(x, y, rng.uniform(0, np.pi))
    warp = noise.rough(rng, size, 2.4)
    phase = across * rng.uniform(5, 9) + 0.22 * warp + 0.1 * np.sin(along * rng.uniform(5, 9))
    saw = phase % 1
    crest = np.where(saw < 0.72, saw / 0.72, (1 - saw) / 0.28)  # a long windward and a short lee side
    lee = noise.smooth(saw, 0.7, 0.78)
    stops = _pick(
        rng, [((188, 136, 82), (226, 180, 122), (244, 212, 162)), ((196, 164, 120), (224, 198, 156), (240, 222, 186))]
    )
    colours = _ramp(0.25 + 0.6 * crest + 0.1 * warp, *stops)
    return colours * (1 - 0.32 * lee * rng.uniform(0.6, 1.1))[..., None]


def dry_wash(rng: Generator, size: int) -> Colours:
    ground = noise.rough(rng, size, 1.2)
    course = noise.rough(rng, size, 2.6)
    bed = np.exp(-((course / 0.16) ** 2)) + 0.5 * np.exp(-((noise.rough(rng, size, 2.3) / 0.07) ** 2))
    colours = _ramp(0.5 + 0.2 * ground, (126, 104, 84), (168, 144, 116), (198, 178, 150))
    colours = colours * (0.7 + 0.3 * noise.shade(ground + course, 1.2))[..., None]
    return _mix(colours, _one((226, 212, 186)), np.clip(bed, 0, 1) * 0.8)


def fields(rng: Generator, size: int) -> Colours:
    """Rectangular fields: rows of parcels of different lengths, each with its crop and furrows."""
    x, y = noise.grid(size)
    u, v = noise.turned(x, y, rng.uniform(0, np.pi))
    rows = rng.uniform(2.2, 4.5)
    v = v * rows + rng.random() + 4
    row = np.floor(v).astype(np.int64)
    u = u * rng.uniform(1.6, 4.5, 16)[row % 16] + rng.random(16)[row % 16] + 8
    column = np.floor(u).astype(np.int64)
    number = row * 32 + column
    crops = np.array(
        [
            (94, 134, 58),
            (126, 158, 74),
            (66, 110, 52),
            (206, 186, 104),
            (226, 204, 128),
            (160, 132, 92),
            (134, 108, 80),
            (180, 176, 96),
            (84, 124, 74),
        ],
        np.float32,
    )
    crop = rng.permutation(len(crops))[: rng.integers(4, 7)]
    colours = crops[crop[rng.integers(len(crop), size=4096)]][number % 4096]
    furrow_along = np.where(noise.per_cell(rng, number) < 0.5, u * 14, v * 9)
    furrows = np.sin(furrow_along * 2 * np.pi * 0.75) * noise.per_cell(rng, number, 0.0, 0.09)
    colours = (
        colours
        * (1 + furrows + noise.per_cell(rng, number, -0.1, 0.1) + 0.035 * noise.rough(rng, size, 1.0))[..., None]
    )
    edge = np.minimum(np.minimum(u % 1, 1 - u % 1) * 0.35, np.minimum(v % 1, 1 - v % 1) / rows)
    hedge = 1 - noise.smooth(edge, 0.006, 0.022)
    border = _one((52, 74, 44) if rng.random() < 0.6 else (186, 170, 138))
    return _mix(colours, border, hedge * 0.85)


def pivots(rng: Generator, size: int) -> Colours:
    """Circles watered from their middle, in the squares of a dry plain."""
    x, y = noise.grid(size)
    count = rng.uniform(1.7, 3.4)
    u, v = x * count + rng.random(), y * count + rng.random()
    number = np.floor(v).astype(np.int64) * 8 + np.floor(u).astype(np.int64)
    du, dv = u % 1 - 0.5, v % 1 - 0.5
    radius, angle = np.hypot(du, dv), np.arctan2(dv, du)
    plain = _ramp(0.5 + 0.2 * noise.rough(rng, size, 1.3), (164, 140, 104), (190, 168, 130), (208, 190, 156))
    greens = np.array([(60, 108, 50), (98, 142, 62), (134, 164, 82), (176, 160, 96), (120, 96, 70)], np.float32)
    crop = greens[rng.integers(len(greens), size=64)]
    other = greens[rng.integers(len(greens), size=64)]
    half = (np.cos(angle - noise.per_cell(rng, number, 0, 6.28)) > 0.35) & (noise.per_cell(rng, number) < 0.45)
    circle = np.where(half[..., None], other[number % 64], crop[number % 64])
    rings = 1 + 0.05 * np.sin(radius * 90) + 0.04 * noise.rough(rng, size, 1.0)
    inside = 1 - noise.smooth(radius, 0.455, 0.475)
    inside *= noise.per_cell(rng, number) < 0.9
    road = np.minimum(np.minimum(u % 1, 1 - u % 1), np.minimum(v % 1, 1 - v % 1)) < 0.015
    return _mix(np.where(road[..., None], _one((214, 200, 172)), plain), circle * rings[..., None], inside)


def orchard(rng: Generator, size: int) -> Colours:
    """Trees in a regular grid on soil or grass, in blocks that stand at angles to each other."""
    x, y = noise.grid(size)
    u, v = noise.turned(x, y, rng.uniform(0, np.pi))
    blocks = rng.uniform(1.2, 2.4)
    bu, bv = u * blocks + 4 + rng.random(), v * blocks + 4 + rng.random()
    number = np.floor(bv).astype(np.int64) * 8 + np.floor(bu).astype(np.int64)
    angle = noise.per_cell(rng, number, -0.5, 0.5)
    pitch = noise.per_cell(rng, number, 9.5, 14.0)
    tu = (u * np.cos(angle) + v * np.sin(angle)) * pitch
    tv = (v * np.cos(angle) - u * np.sin(angle)) * pitch * noise.per_cell(rng, number, 0.9, 1.1)
    du, dv = tu % 1 - 0.5, tv % 1 - 0.5
    crown = 1 - noise.smooth(np.hypot(du, dv), 0.24, 0.38)
    shadow = 1 - noise.smooth(np.hypot(du - 0.2, dv - 0.2), 0.22, 0.36)
    soil = _ramp(
        noise.per_cell(rng, number) * 0.8 + 0.1 + 0.06 * noise.rough(rng, size, 1.1),
        (176, 146, 104),
        (198, 174, 132),
        (148, 158, 96),
    )
    tree = _ramp(
        noise.per_cell(rng, number) + 0.1 * noise.rough(rng, size, 1.0), (44, 84, 40), (78, 112, 52), (96, 118, 74)
    )
    colours = _mix(soil, soil * 0.55, shadow)
    colours = _mix(colours, tree * (1.15 - 0.5 * (du + dv))[..., None], crown)
    lane = np.minimum(np.minimum(bu % 1, 1 - bu % 1), np.minimum(bv % 1, 1 - bv % 1))
    return _mix(colours, _one((206, 190, 156)), 1 - noise.smooth(lane, 0.02, 0.05))


def vineyard(rng: Generator, size: int) -> Colours:
    """Close rows of vines that follow the slope, block by block."""
    x, y = noise.grid(size)
    u, v = noise.turned(x, y, rng.uniform(0, np.pi))
    near, second, number, _ = noise.cells(rng, u * 2.2 + 0.08 * noise.rough(rng, size, 2.5), v * 2.2, 0.8)
    angle = noise.per_cell(rng, number, 0, np.pi)
    bend = 0.035 * noise.rough(rng, size, 2.6)
    rows = (u * np.cos(angle) + v * np.sin(angle) + bend) * noise.per_cell(rng, number, 12, 17)
    vine = noise.smooth((0.5 + 0.5 * np.sin(rows * 2 * np.pi)), 0.3, 0.75)
    vine *= 0.85 + 0.15 * noise.rough(rng, size, 0.8)
    soil = _ramp(noise.per_cell(rng, number), (188, 156, 112), (206, 184, 142), (164, 132, 98))
    leaf = _ramp(noise.per_cell(rng, number), (58, 98, 42), (94, 124, 54), (124, 132, 62))
    track = 1 - noise.smooth((second - near), 0.03, 0.1)
    return _mix(_mix(soil, leaf, np.clip(vine, 0, 1)), _one((216, 202, 170)), track)


def _crowns(rng: Generator, size: int, count: float, stops: tuple[Rgb, ...], spread: Field) -> Colours:
    """A canopy of tree crowns, each a lit dome of its own colour; `spread` moves the colours along the stops."""
    x, y = noise.grid(size)
    near, _, number, angle = noise.cells(rng, x * count, y * count, 0.85)
    dome = np.clip(1.1 - 1.1 * near * near, 0.25, 1)
    light: Field = dome * (1 - 0.42 * near * np.cos(angle - 0.8))
    colours = _ramp(noise.per_cell(rng, number, -0.3, 0.3) + spread, *stops)
    return colours * light[..., None]


def mixed_forest(rng: Generator, size: int) -> Colours:
    """Oak and hickory in autumn, with clearings."""
    spread = 0.5 + 0.22 * noise.rough(rng, size, 1.8)
    stops = ((64, 96, 48), (126, 124, 52), (196, 148, 54), (198, 104, 46), (150, 62, 44))
    colours = _crowns(rng, size, rng.uniform(11, 15), stops, spread)
    clearing = noise.smooth(noise.rough(rng, size, 2.2), 1.0, 1.4)
    return _mix(colours, _ramp(spread, (152, 152, 88), (178, 166, 104)), clearing)


def savanna(rng: Generator, size: int) -> Colours:
    """Grass with scattered shrubs and their shadows."""
    x, y = noise.grid(size)
    moisture = noise.rough(rng, size, 1.9)
    grass = _ramp(
        0.5 + 0.25 * moisture + 0.08 * noise.rough(rng, size, 0.8), (186, 168, 104), (158, 156, 84), (112, 136, 68)
    )
    count = rng.uniform(9, 13)
    near, _, number, angle = noise.cells(rng, x * count, y * count, 0.95)
    bush = noise.per_cell(rng, number, 0.12, 0.42) * noise.smooth(
        noise.per_cell(rng, number) + 0.15 * moisture, 0.3, 0.5
    )
    crown = 1 - noise.smooth((near - bush), -0.06, 0.06)
    shadow = 1 - noise.smooth((near * (1 - 0.45 * np.cos(angle - 0.8)) - bush), -0.04, 0.1)
    colours = _mix(grass, grass * 0.58, shadow * (bush > 0.05))
    return _mix(colours, _ramp(noise.per_cell(rng, number), (66, 88, 44), (92, 108, 56)), crown * (bush > 0.05))


def meadow(rng: Generator, size: int) -> Colours:
    """Rolling grassland with thickets in the hollows."""
    height = noise.rough(rng, size, 2.2)
    grass = _ramp(
        0.5 + 0.3 * height + 0.06 * noise.rough(rng, size, 0.9), (96, 128, 64), (136, 152, 82), (176, 168, 104)
    )
    grass = grass * (0.62 + 0.38 * noise.shade(height, 2.4))[..., None]
    thicket = noise.smooth(-height + 0.35 * noise.rough(rng, size, 1.0), 0.75, 1.15)
    return _mix(grass, _ramp(0.5 + 0.4 * noise.rough(rng, size, 0.6), (58, 84, 42), (88, 108, 56)), thicket)


def floes(rng: Generator, size: int) -> Colours:
    """Ice floes of all sizes adrift on dark water."""
    x, y = noise.grid(size)
    warp = noise.rough(rng, size, 2.2) * 0.16
    count = rng.uniform(3.5, 6.5)
    near, second, number, _ = noise.cells(rng, x * count + warp, y * count - warp, 0.95)
    gap = second - near
    lead = noise.per_cell(rng, number, 0.06, 0.22)
    floe = noise.smooth((gap - lead), 0.0, 0.05) * (noise.per_cell(rng, number) < 0.86)
    fine_near, fine_second, _, _ = noise.cells(rng, x * count * 4, y * count * 4, 0.95)
    brash = noise.smooth((fine_second - fine_near), 0.25, 0.4) * 0.55
    water = _ramp(0.5 + 0.2 * noise.rough(rng, size, 1.6), (14, 40, 66), (30, 70, 100))
    snow = _ramp(0.6 + 0.2 * noise.rough(rng, size, 1.3), (190, 212, 226), (228, 238, 244), (250, 252, 253))
    sea = _mix(water, _one((168, 198, 216)), brash)
    return _mix(sea, snow * noise.per_cell(rng, number, 0.9, 1.02)[..., None], floe)


def snow_peaks(rng: Generator, size: int) -> Colours:
    """Snow on mountains, rock on the steepest slopes, blue in the shade."""
    height = noise.rough(rng, size, 2.4) + 1.2 * (1 - np.abs(noise.rough(rng, size, 2.2)))
    light = noise.shade(height, 4.0)
    colours = _ramp(light * 0.55, (82, 112, 158), (166, 190, 220), (238, 243, 248), (255, 255, 255))
    down, right = np.gradient(height)
    steep = np.hypot(down, right) * size / 64
    rock = noise.smooth((steep + 0.06 * noise.rough(rng, size, 1.2)), 0.26, 0.4)
    return _mix(colours, _one((98, 92, 90)) * (0.5 + 0.5 * light)[..., None], rock * 0.85)


def glacier(rng: Generator, size: int) -> Colours:
    """A river of ice with crevasses across its flow and dark moraine along it."""
    x, y = noise.grid(size)
    u, v = noise.turned(x, y, rng.uniform(0, np.pi))
    bend = 0.14 * noise.rough(rng, size, 2.8)
    across = v + bend
    crevasses = np.abs(np.sin((u + 0.7 * across * across + 0.012 * noise.rough(rng, size, 2.0)) * rng.uniform(20, 30)))
    zone = noise.smooth(noise.rough(rng, size, 2.0), -0.3, 0.6)
    colours = _ramp(0.72 + 0.16 * noise.rough(rng, size, 1.5), (164, 198, 222), (220, 234, 242), (250, 252, 254))
    colours = _mix(colours, _one((92, 148, 190)), (1 - noise.smooth(crevasses, 0.05, 0.6)) * zone * 0.85)
    moraine = sum(np.exp(-(((across - place) / 0.018) ** 2)) for place in rng.uniform(-0.55, 0.55, 3))
    return _mix(colours, _one((122, 116, 112)), (np.clip(moraine, 0, 1) * 0.7))


def islands(rng: Generator, size: int) -> Colours:
    """Small islands in shallow turquoise water, with beaches and green inside."""
    level = noise.rough(rng, size, 2.3) - rng.uniform(0.9, 1.5) + 0.12 * noise.rough(rng, size, 1.0)
    colours = _ramp(level * 0.42 + 1.0, (8, 42, 92), (14, 80, 132), (34, 140, 168), (118, 208, 204))
    beach = noise.smooth(level, -0.02, 0.08)
    land = noise.smooth(level, 0.14, 0.3)
    colours = _mix(colours, _one((236, 222, 184)), beach)
    green = _ramp(0.5 + 0.3 * noise.rough(rng, size, 0.8), (50, 88, 46), (92, 124, 62))
    return _mix(colours, green * (0.6 + 0.4 * noise.shade(level, 2.5))[..., None], land)


def open_sea(rng: Generator, size: int) -> Colours:
    """Waves on deep water, with whitecaps and light upon them."""
    x, y = noise.grid(size)
    _, across = noise.turned(x, y, rng.uniform(0, np.pi))
    swell = np.sin(across * rng.uniform(38, 60) + 1.5 * noise.rough(rng, size, 2.2)) * 0.10
    chop = noise.rough(rng, size, 1.0, low=6, stretch=2.5)
    glint = noise.smooth(noise.rough(rng, size, 2.8), 0.2, 2.2)
    value = 0.35 + swell + 0.07 * chop + 0.35 * glint
    stops = _pick(rng, [((6, 30, 66), (16, 62, 108), (60, 120, 158)), ((8, 50, 74), (22, 88, 112), (84, 150, 166))])
    return _mix(_ramp(value, *stops), _one((226, 236, 240)), noise.smooth(chop + 2 * swell, 2.3, 2.8) * 0.8)


def lake(rng: Generator, size: int) -> Colours:
    """A lake with a shallow rim, in green or dry country."""
    level = noise.rough(rng, size, 2.7) + 0.1 * noise.rough(rng, size, 1.2)
    level = level - np.quantile(level, rng.uniform(0.58, 0.78))
    dry = rng.random() < 0.35
    land = _ramp(
        0.5 + 0.25 * noise.rough(rng, size, 1.1) + 0.1 * level,
        *(((150, 132, 98), (190, 172, 134)) if dry else ((62, 92, 48), (104, 128, 66), (140, 142, 86))),
    )
    water = _ramp(-level * 0.5, (86, 142, 150), (36, 92, 124), (14, 54, 94), (10, 42, 80))
    water = water * (1 + 0.02 * noise.rough(rng, size, 0.6))[..., None]
    shore = np.exp(-((level / 0.05) ** 2))
    return _mix(_mix(land, water, 1 - noise.smooth(level, -0.03, 0.03)), _one((206, 194, 160)), shore * 0.6)


def dense_canopy(rng: Generator, size: int) -> Colours:
    """Evergreen canopy without a gap, over hills."""
    height = noise.rough(rng, size, 2.3)
    stops = _pick(rng, [((18, 46, 26), (36, 72, 36), (66, 100, 50)), ((16, 44, 34), (30, 66, 46), (54, 88, 58))])
    colours = _crowns(rng, size, rng.uniform(13, 18), stops, 0.5 + 0.14 * height)
    return colours * (0.62 + 0.42 * noise.shade(height, 2.0))[..., None]


def mangrove(rng: Generator, size: int) -> Colours:
    """Swamp forest cut by meandering tidal creeks."""
    course = noise.rough(rng, size, 2.9)
    side = noise.rough(rng, size, 2.3)
    creek = np.exp(-((course / 0.2) ** 2)) + 0.8 * np.exp(-((side / 0.09) ** 2)) * noise.smooth(course, -1.6, 0.2)
    colours = _crowns(rng, size, rng.uniform(14, 19), ((22, 56, 34), (44, 86, 46), (74, 108, 58)), 0.5 + 0.2 * side)
    water = _ramp(0.5 + 0.3 * noise.rough(rng, size, 1.8), (64, 96, 102), (98, 124, 122))
    bank = noise.smooth(creek, 0.25, 0.45)
    colours = _mix(colours, _one((112, 104, 78)), bank * 0.7)
    return _mix(colours, water, noise.smooth(creek, 0.42, 0.6))


def plantation_edge(rng: Generator, size: int) -> Colours:
    """Dense conifers with a logging track and a felled patch."""
    x, y = noise.grid(size)
    _, across = noise.turned(x, y, rng.uniform(0, np.pi))
    height = noise.rough(rng, size, 2.4)
    colours = _crowns(rng, size, rng.uniform(15, 20), ((20, 50, 36), (38, 74, 48), (58, 92, 56)), 0.5 + 0.15 * height)
    felled = noise.smooth(noise.rough(rng, size, 2.8), 1.1, 1.25)
    colours = _mix(colours, _ramp(0.5 + 0.3 * noise.rough(rng, size, 0.9), (108, 98, 70), (142, 130, 92)), felled)
    track = np.exp(-(((across + 0.1 * height - rng.uniform(-0.25, 0.25)) / 0.014) ** 2))
    return _mix(colours, _one((190, 172, 136)), (track * 0.85))
