"""Images of fruit drawn by code, with only numpy and Pillow.

Sixteen fruits in varied poses, ripeness, light and on varied tables, the same for the same seed.
No files.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter


class Light(NamedTuple):
    """One lamp: the unit vector towards it (x right, y down, z to the camera) and its colours."""

    towards: np.ndarray
    colour: np.ndarray
    ambient: float


class Brush:
    """Paints solids in its own coordinates (u right, v up, unit circle) on a window of a layer.

    A solid is its field of squared heights q(u, v): positive inside, zero at the outline. For
    h = sqrt(q) the normal is (-dq/du, -dq/dv, 2h), which stays finite at the outline, so one
    gradient gives the smooth edge and the shading, and adding to q models bumps and dents.
    """

    def __init__(
        self,
        layer: np.ndarray,
        light: Light,
        rng: np.random.Generator,
        *,
        centre: np.ndarray,
        frame: np.ndarray,
    ):
        self.layer, self.light, self.rng = layer, light, rng  # layer: (S, S, 4), premultiplied
        self.centre, self.frame = centre, frame  # frame (2, 2) takes (u, v) to pixels (x, y)
        self.scale = float(np.sqrt(abs(np.linalg.det(self.frame))))  # pixels per unit
        low = np.clip(self.centre - 1.2 * self.scale, 0, len(layer) - 2).astype(int)
        high = np.clip(self.centre + 1.2 * self.scale + 1, low + 2, len(layer)).astype(int)
        self.window = layer[low[1] : high[1], low[0] : high[0]]  # a view: (h, w, 4)
        x = np.arange(low[0], high[0], dtype=np.float32)[None, :] - np.float32(self.centre[0])
        y = np.arange(low[1], high[1], dtype=np.float32)[:, None] - np.float32(self.centre[1])
        (a, b), (c, d) = np.linalg.inv(self.frame).astype(np.float32)
        self.u, self.v = a * x + b * y, c * x + d * y

    def child(self, u: float, v: float, scale: float, angle: float = 0.0) -> "Brush":
        """Return a brush on the same layer: its origin at (u, v), turned left by `angle`."""
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        frame = self.frame @ [[cos, -sin], [sin, cos]]
        centre = self.centre + self.frame @ [u, v]
        return Brush(self.layer, self.light, self.rng, centre=centre, frame=frame)

    def noise(self, frequency: float, stretch: float = 1.0) -> np.ndarray:
        """Return smooth noise in -1..1, `stretch` times longer along v: (h, w)."""
        total = np.zeros_like(self.u)
        for angle, phase in self.rng.uniform(0, 6.28, (7, 2)).tolist():
            pace = frequency * (0.6 + 0.13 * (phase % 5))
            a, b = pace * np.cos(angle), pace * np.sin(angle) / stretch
            total += np.sin(self.u * float(a) + self.v * float(b) + phase)
        return np.clip(total / 4, -1, 1)

    def grain(self) -> np.ndarray:
        """Return pixel noise of unit deviation: (h, w)."""
        return self.rng.standard_normal(self.u.shape, dtype=np.float32)

    def pick(self, one: str, other: str) -> np.ndarray:
        """Return a random colour between two hexadecimal ones: (3,)."""
        chance = np.float32(self.rng.normal(0, 0.015, 3))
        return mix(ink(one), ink(other), self.rng.random()) + chance

    def part(
        self,
        q: np.ndarray,
        colour: np.ndarray,
        *,
        relief: float = 1.0,
        gloss: float = 0.3,
        shine: float = 30.0,
        glow: float = 0.0,
        fuzz: float = 0.0,
        halo: float = 0.0,
    ) -> None:
        """Paint the solid of squared heights `q` over what the layer has.

        `relief` 0 is a flat cut face; `glow` lets light through to the far side; `fuzz` brightens
        grazing skin; `halo` darkens what lies around, as a touching neighbour does.
        """
        q = q.astype(np.float32)
        gy, gx = np.gradient(q)
        edge = np.clip(0.5 + q / (np.hypot(gx, gy) + 1e-5), 0, 1)[..., None]
        nx, ny = (g * np.float32(-self.scale * relief / 2) for g in (gx, gy))
        nz = np.sqrt(np.maximum(q, 1e-3)) + np.float32(1 - min(relief, 1))
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        nx, ny, nz = nx / length, ny / length, nz / length

        lx, ly, lz = self.light.towards.tolist()
        half = np.array([lx, ly, lz + 1]) / np.sqrt(2 + 2 * lz)
        facing = nx * lx + ny * ly + nz * lz
        mirror = nx * float(half[0]) + ny * float(half[1]) + nz * float(half[2])
        diffuse = np.maximum(0.15 + 0.85 * facing, 0) + glow * np.maximum(-facing + 0.4, 0)
        ambient = self.light.ambient * (0.55 + 0.45 * nz) + fuzz * (1 - nz) ** 2
        lit = colour * (ambient[..., None] + diffuse[..., None] * self.light.colour)
        near = shine * (mirror - 1)  # exp(n (x - 1)) stands for x^n near 1 and is faster
        lit = lit + gloss * (np.exp(near) + 0.25 * np.exp(near / 5))[..., None]

        if halo:
            self.window[..., :3] *= (1 - halo * np.clip(1 + 4 * q, 0, 1) ** 2)[..., None]
        self.window[..., :3] += (lit - self.window[..., :3]) * edge
        self.window[..., 3:] += (1 - self.window[..., 3:]) * edge

    def fill(self, colour: np.ndarray) -> None:
        """Cover the whole window with a flat, lit colour."""
        self.window[..., :3], self.window[..., 3] = colour, 1


def ink(code: str) -> np.ndarray:
    """Return a hexadecimal colour as floats in 0..1: (3,)."""
    return np.array(list(bytes.fromhex(code)), np.float32) / 255


def mix(one: np.ndarray, other: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Return the colours between two, by `share` (clipped to 0..1) of the other."""
    return one + (other - one) * np.clip(np.asarray(share, np.float32), 0, 1)[..., None]


def ramp(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Return 0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bell(x: np.ndarray, width: float) -> np.ndarray:
    """Return 1 at x = 0, falling to 0 over `width`."""
    return np.exp(-np.square(x / width))


def lattice(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets to the nearest point of a unit lattice with every other row shifted."""
    row = np.round(b)
    a = a + 0.5 * (row % 2)
    return a - np.round(a), b - row


def polar(b: Brush) -> tuple[np.ndarray, np.ndarray]:
    """Return radius and angle; the angle is 0 at the top and grows to the right."""
    return np.hypot(b.u, b.v), np.arctan2(b.u, b.v)


def draw_leaf(
    b: Brush,
    at: tuple[float, float],
    angle: float,
    length: float,
    *,
    width: float = 0.25,
    bend: float = 0.0,
    colours: tuple[str, str] = ("3f7d2c", "6aa83c"),
) -> None:
    """Draw a folded leaf from its base `at` to its tip; the colours run the same way."""
    c = b.child(*at, length, angle).child(0, 0.5, 0.5)  # centred, for the smallest window
    across, along = c.u / 2, c.v / 2 + 0.5
    side = np.sqrt(np.square(across - bend * along * along) + 3e-4)
    veins = 0.08 * np.cos(30 * (along - side)) + 0.15 * bell(side, 0.02)
    q = width * 4 * along * (1 - along) - side
    skin = mix(ink(colours[0]), ink(colours[1]), along + veins)
    c.part(4 * q, skin, relief=0.5, gloss=0.15, halo=0.4)


def draw_stem(
    b: Brush,
    at: tuple[float, float],
    angle: float,
    length: float,
    *,
    width: float = 0.04,
    bend: float = 0.0,
    colour: str = "6b4a2b",
) -> None:
    """Draw a thin stem of the given half-width, swelling at its far end."""
    c = b.child(*at, length, angle)
    thick = width / length * (1 + 0.5 * ramp(0.7, 1, c.v))
    beyond = np.maximum(np.abs(c.v - 0.5) - 0.5, 0)
    q = thick**2 - np.square(c.u - bend * c.v * (1 - c.v) * 4) - beyond**2
    c.part(q, ink(colour) * (1 + 0.1 * c.grain()[..., None]), gloss=0.1, halo=0.3)


def draw_citrus(b: Brush, q: np.ndarray, peel: np.ndarray, flesh: np.ndarray) -> None:
    """Draw a peel with pores in the shape `q`; or cut across, a disc that shows the segments."""
    skin = peel * (1 + 0.05 * b.noise(4) + 0.02 * b.grain())[..., None]
    if b.rng.random() < 0.35:
        r, turn = polar(b)
        r = r / 0.8
        b.part(0.64 * (1 - r * r), skin, gloss=0.3)
        count = b.rng.integers(9, 12)
        across = np.abs((turn * count / 6.2832 + b.rng.random()) % 1 - 0.5)  # 0.5: a wall
        walls = (0.5 - across) * r * 6 / count
        pulp = ramp(0.01, 0.05, walls) * ramp(0.87, 0.82, r) * ramp(0.07, 0.12, r)
        cells = 0.94 + 0.12 * np.sin(turn * 60 + 6 * b.noise(5)) * r + 0.1 * b.noise(30)
        pith = mix(ink("f3e8c8"), peel, 0.1 + ramp(0.9, 0.97, r))
        face = mix(pith, flesh * cells[..., None], pulp)
        b.part(0.62 * (1 - r * r) - 0.01, face, relief=0.06, gloss=0.12)
        return
    pores = (0.004 * b.noise(75) + 0.004 * b.grain()) * ramp(0.05, 0.3, q)
    b.part(q + pores, skin, gloss=0.4, shine=20)
    up = b.rng.uniform(0.35, 0.75)
    c = b.child(0, up, 0.13)
    r, turn = polar(c)
    c.part(0.4 - (r * (1 + 0.25 * np.cos(5 * turn))) ** 2, ink("7d8a3c"), gloss=0.05)
    if b.rng.random() < 0.4:
        draw_leaf(b, (0, up), b.rng.uniform(-2, 2), b.rng.uniform(0.6, 0.9), width=0.27)


def draw_apple(b: Brush) -> None:
    r, turn = polar(b)
    outline = 0.8 * (1 - 0.1 * bell(turn, 0.45) - 0.06 * bell(np.abs(turn) - 3.14, 0.3))
    outline = outline * (1 + 0.05 * np.cos(turn) + 0.03 * np.cos(2 * turn + 1.57))
    dent = np.hypot(b.u / 0.34, (b.v - 0.5) / 0.17)
    q = 0.64 * (1 - (r / outline) ** 2) - 0.3 * bell(dent, 0.9)
    red = b.rng.uniform(-0.4, 1.4) + 0.5 * b.noise(2.5) + 0.22 * b.noise(24, 9)
    skin = mix(b.pick("8fbf3a", "d6d052"), b.pick("98101a", "cf2f2a"), red - 0.7 * bell(dent, 0.9))
    skin = mix(skin, ink("f2dfa0"), 0.4 * ramp(0.85, 1, b.noise(75)))
    b.part(q, skin, gloss=0.5, shine=40)
    draw_stem(b, (0, 0.47), b.rng.uniform(-0.4, 0.4), 0.5, bend=b.rng.uniform(-0.1, 0.1))
    if b.rng.random() < 0.5:
        draw_leaf(b, (0, 0.7), b.rng.uniform(-1.9, -0.9), 0.6)


def draw_avocado(b: Brush) -> None:
    waist = 0.4 + 0.26 * ramp(0.5, -0.45, b.v)
    q = (0.92 - b.v**2) * waist**2 * 1.1 - b.u**2
    skin = b.pick("2c3a1e", "46592a") * (1 + 0.15 * b.noise(30)[..., None])
    b.part(q + 0.006 * b.noise(30), skin, gloss=0.25)
    face = q - 0.03
    flesh = mix(b.pick("7fa52f", "9db845"), b.pick("e6dc86", "efe5a2"), ramp(0, 0.17, face))
    b.part(face, flesh * (1 + 0.02 * b.noise(12)[..., None]), relief=0.12, gloss=0.15)
    c = b.child(0, -0.28, 0.3)
    r = np.hypot(c.u, c.v)
    if b.rng.random() < 0.25:
        c.part(0.9 - r**2, mix(ink("e0cd7d"), ink("a98d48"), ramp(-0.8, 1, c.v)), relief=-0.5)
    else:
        brown = c.pick("6d3d1c", "9a6233") * (1 + 0.12 * c.noise(6, 3)[..., None])
        c.part(0.95 - r**2, brown, gloss=0.35, halo=0.35)


def draw_banana(b: Brush) -> None:
    ripe, count = b.rng.random(), b.rng.integers(1, 4)
    yellow = mix(b.pick("b5c443", "d6cf4a"), b.pick("f3cf3a", "f0bf2a"), ripe * 1.6)
    for index in range(count):
        c = b.child(0.62, 0.42, 1.0, 0.34 * (index - (count - 1) / 2)).child(-0.62, -0.42, 1.0)
        r, turn = np.hypot(c.u, c.v - 0.75), np.arctan2(c.u, 0.75 - c.v)
        along, across = turn / 1.02, r - 1.08 - 0.03 * np.cos(turn * 3)
        q = 0.046 * (1 - np.abs(along) ** 3.5) - across**2
        ridge = 0.012 * (bell(across - 0.03, 0.05) + bell(across + 0.13, 0.05))
        neck = 0.0065 - across**2 - np.maximum(np.abs(along - 1.0) - 0.2, 0) ** 2
        q = np.maximum(q + ridge, neck)
        skin = mix(yellow, ink("94a83c"), 0.8 * ramp(0.7, 1.05, along))
        spots = ramp(0.75, 0.95, c.noise(26) + 0.5 * ripe - 0.2) * ramp(0.45, 0.9, ripe)
        skin = mix(skin, ink("6b4420"), 0.85 * np.maximum(spots, 0.5 * bell(across + 0.13, 0.02)))
        ends = np.maximum(ramp(-0.9, -0.97, along), ramp(1.13, 1.18, along))
        c.part(q, mix(skin, ink("3b2a1a"), ends), gloss=0.15, shine=12, halo=0.5)


def draw_blueberry(b: Brush) -> None:
    count = b.rng.integers(3, 9)
    for index in range(count):  # a sunflower spiral, shaken
        far, angle = 0.66 * np.sqrt((index + 0.3) / count), 2.4 * index + b.rng.normal(0, 0.25)
        size = b.rng.uniform(0.42, 0.5) * (4 / (count + 1)) ** 0.35
        c = b.child(far * np.sin(angle), far * np.cos(angle), size, b.rng.uniform(0, 6.28))
        tilt = b.rng.uniform(0, 0.65)
        crown = c.child(0, tilt, 0.42)
        r, turn = np.hypot(crown.u, crown.v / (1 - 0.5 * tilt)), np.arctan2(crown.u, crown.v)
        bloom = 0.35 + 0.4 * c.noise(4) + 0.08 * c.grain()
        skin = mix(c.pick("1f2547", "2f3a6e"), c.pick("7d8fc0", "95a3cc"), bloom)
        c.part(1 - c.u**2 - c.v**2, skin, gloss=0.12, shine=10, halo=0.6)
        crown.part(0.7 - (r * (1 + 0.28 * np.cos(5 * turn))) ** 2, ink("39406b"), relief=-0.8)
        crown.part(0.22 - r**2, ink("171a30"), relief=-0.6, gloss=0)


def draw_cherry(b: Brush) -> None:
    red = b.pick("7a0a18", "c01a25")
    spots = [(-0.48, -0.35), (0.46, -0.5), (0.0, -0.62)][: b.rng.integers(1, 4)]
    top = b.rng.uniform(-0.3, 0.3), 0.92
    if b.rng.random() < 0.4:
        draw_leaf(b, top, b.rng.choice([-2.0, 2.0]), 0.65, width=0.28)
    for u, v in spots:
        c = b.child(u, v, 0.44, b.rng.normal(0, 0.2))
        r, turn = polar(c)
        dent = np.hypot(c.u / 0.4, (c.v - 0.6) / 0.25)
        q = 0.9 - (r / (1 - 0.08 * bell(turn, 0.5))) ** 2 - 0.35 * bell(dent, 0.8)
        skin = red * (1 + 0.12 * c.noise(3)[..., None])
        c.part(q, skin, gloss=0.75, shine=60, glow=0.15, halo=0.5)
        across, up = top[0] - u, top[1] - v - 0.26
        angle, length = np.arctan2(-across, up), float(np.hypot(across, up))
        bend = -0.15 * np.sign(u)
        draw_stem(b, (u, v + 0.26), angle, length, width=0.022, bend=bend, colour="7f8f3a")


def draw_dragon_fruit(b: Brush) -> None:
    pink, scales = b.pick("cf1f70", "e64b92"), ("d9347f", "9cc04a")
    for angle in np.linspace(-2.6, 2.6, 8) + b.rng.normal(0, 0.08, 8):
        at = -0.42 * np.sin(angle), 0.55 * np.cos(angle)
        draw_leaf(b, at, angle * 0.6, 0.46, width=0.34, bend=0.2 * angle, colours=scales)
    q = 0.3 * (1 - (b.u / 0.6) ** 2 - (b.v / 0.8) ** 2)
    b.part(q, pink * (1 + 0.08 * b.noise(6)[..., None]), gloss=0.25)
    if b.rng.random() < 0.5:
        flesh = b.pick("f4f1ee", "e3dedc") if b.rng.random() < 0.7 else b.pick("a8155c", "bf2a70")
        seeds = ramp(0.46, 0.58, b.noise(100)) * ramp(0.05, 0.07, q)
        face = mix(pink, flesh, ramp(0.035, 0.05, q))
        b.part(q - 0.012, mix(face, ink("1c1a1c"), seeds), relief=0.05, gloss=0.15)
        return
    across, up = (-0.2, 0.2, -0.38, 0, 0.38, -0.2, 0.2, 0), (0.4, 0.4, 0, 0, 0, -0.35, -0.35, -0.7)
    for u, v in zip(across, up, strict=True):
        draw_leaf(b, (u, v - 0.08), -u * 0.7, 0.46, width=0.3, colours=scales)


def draw_grapes(b: Brush) -> None:
    dark, light, glow = [("3b1440", "5e2358", 0.15), ("7fa62e", "b4c84e", 0.5)][b.rng.integers(2)]
    draw_stem(b, (0, 0.4), b.rng.normal(0, 0.2), 0.58, width=0.035, colour="7a6a35")
    if b.rng.random() < 0.5:
        draw_leaf(b, (0, 0.75), b.rng.choice([-1.7, 1.7]), 0.6, width=0.38)
    rows = enumerate((2, 4, 5, 4, 3, 1))
    places = [(0.32 * (i - (n - 1) / 2), 0.5 - 0.28 * row) for row, n in rows for i in range(n)]
    for u, v in b.rng.permutation(places) + b.rng.normal(0, 0.03, (len(places), 2)):
        c = b.child(u, v, b.rng.uniform(0.18, 0.23), b.rng.uniform(-0.5, 0.5))
        skin = mix(c.pick(dark, light), ink("b9b4cf"), 0.12 + 0.15 * c.noise(3))
        c.part(1 - c.u**2 - (c.v * 0.9) ** 2, skin, gloss=0.45, shine=35, glow=glow, halo=0.6)


def draw_kiwi(b: Brush) -> None:
    squash = b.rng.uniform(0.82, 1)
    r, turn = np.hypot(b.u, b.v / squash) / 0.86, np.arctan2(b.u, b.v / squash)
    q = 0.7 * (1 - r * r)
    skin = b.pick("6b4f2c", "8d6d42") * (1 + 0.15 * b.grain()[..., None])
    b.part(q, skin, gloss=0.02, fuzz=0.2)
    rays = np.sin(turn * 34 + b.noise(2)) * ramp(0.2, 0.45, r)
    green = mix(b.pick("a6c34a", "bccb5a"), b.pick("5f962a", "7fae35"), ramp(0.2, 0.9, r))
    green = green * (1 + 0.07 * rays + 0.05 * b.noise(10))[..., None]
    core = b.rng.uniform(0.2, 0.28)
    face = mix(b.pick("eee9be", "f4efd2"), green, ramp(core, core + 0.14, r + 0.03 * rays))
    a, c = lattice(turn * 26 / 6.2832 + 0.2 * b.noise(9), (r - core - 0.2) * 9 + 0.5 * b.noise(9))
    seeds = ramp(0.3, 0.2, np.hypot(a * 1.3, c * 0.75)) * (np.abs(r - core - 0.21) < 0.12)
    b.part(q - 0.06, mix(face, ink("1d1812"), seeds), relief=0.06, gloss=0.15)


def draw_lemon(b: Brush) -> None:
    q = 0.36 * np.maximum(1 - (b.v / 0.84) ** 2, 0) ** 1.3 + 0.02 * (1 - b.v**4) - b.u**2
    peel = b.pick("f0c420", "f6d83a") if b.rng.random() < 0.8 else b.pick("d3cf3c", "dcd040")
    draw_citrus(b, q, peel, b.pick("ecd662", "f0de86"))


def draw_orange(b: Brush) -> None:
    q = 0.72 * (1 - (b.u / 0.85) ** 2 - (b.v / b.rng.uniform(0.78, 0.85)) ** 2)
    draw_citrus(b, q, b.pick("ee7d14", "f7a528"), b.pick("f39a2a", "f9b24a"))


def draw_peach(b: Brush) -> None:
    r, turn = polar(b)
    outline = 0.82 * (1 - 0.07 * bell(turn, 0.3) + 0.05 * bell(np.abs(turn) - 3.14, 0.25))
    crease = b.u - b.rng.uniform(0.1, 0.35) * np.sqrt(np.maximum(0.7 - b.v**2, 0.01))
    dent = np.hypot(b.u / 0.2, (b.v - 0.6) / 0.12)
    q = 0.67 * (1 - (r / outline) ** 2) - 0.12 * bell(dent, 1)
    q = q - 0.05 * bell(crease, 0.07) * ramp(-0.6, 0.4, b.v)
    blush = b.rng.uniform(0.1, 0.9) + 0.6 * b.noise(2.2) + 0.4 * b.u + 0.15 * b.noise(12)
    skin = mix(b.pick("f6c064", "f3a95a"), b.pick("b92a35", "d84c44"), blush)
    skin = mix(skin, ink("a03030"), 0.35 * bell(crease, 0.05) * ramp(-0.7, 0.3, b.v))
    b.part(q, skin * (1 + 0.03 * b.grain()[..., None]), gloss=0.06, shine=6, fuzz=0.5)
    if b.rng.random() < 0.6:
        draw_leaf(b, (0, 0.66), b.rng.choice([-1.1, 1.1]), 0.75, width=0.2, bend=0.1)


def draw_pear(b: Brush) -> None:
    waist = 0.36 + 0.37 * ramp(0.55, -0.5, b.v)
    q = (0.78 - b.v**2) * waist**2 * 1.25 - b.u**2
    ripe = b.rng.uniform(0, 0.7) + 0.25 * b.noise(2.5)
    skin = mix(b.pick("9fb53c", "b9c650"), b.pick("d9bd4c", "cfa94a"), ripe)
    skin = mix(skin, b.pick("b5542e", "c46a3a"), b.rng.uniform(-0.6, 0.6) + 0.6 * b.u)
    skin = mix(skin, ink("7d6a30"), 0.5 * ramp(0.55, 0.9, b.noise(60)))
    b.part(q, skin, gloss=0.25, shine=20)
    draw_stem(b, (0, 0.82), b.rng.uniform(-0.5, 0.5), 0.3, width=0.035, bend=0.1)
    if b.rng.random() < 0.3:
        draw_leaf(b, (0, 0.9), b.rng.choice([-1.6, 1.6]), 0.5)


def draw_pineapple(b: Brush) -> None:
    for angle in (*np.linspace(-1.2, 1.2, 6), *np.linspace(-0.6, 0.6, 4), 0.0):
        length = (0.72 - 0.14 * abs(angle)) * b.rng.uniform(0.85, 1.1)
        at, greens = (-0.12 * np.sin(angle), 0.28), ("3b6b35", "86a45c")
        draw_leaf(b, at, angle, length, width=0.14, bend=-0.35 * angle, colours=greens)
    body = b.child(0, -0.3, 0.68)
    w = 0.72 * np.sqrt(np.maximum(1 - np.abs(body.v) ** 2.6, 1e-3))
    around, high = np.arcsin(np.clip(body.u / w, -1, 1)) * 2.6, body.v * 3.9
    s, t = around + high, around - high
    s, t = s - np.round(s), t - np.round(t)
    groove = np.maximum(np.abs(s), np.abs(t))  # 0.5: the border between two eyes
    eye = np.hypot(s, t)
    q = 0.52 * (1 - np.abs(body.v) ** 2.6) - body.u**2 + 0.1 * (0.5 - groove)
    skin = mix(body.pick("d99a2b", "e0b03c"), body.pick("8a8a35", "b07a2a"), 0.5 + body.noise(3))
    skin = mix(skin, ink("5b3a1c"), 0.85 * ramp(0.36, 0.5, groove) + 0.8 * ramp(0.16, 0.06, eye))
    body.part(q, skin, gloss=0.15, halo=0.3)


def draw_raspberry(b: Brush) -> None:
    red = b.pick("b8123a", "e84a68")
    spots = []
    for v in np.linspace(0.6, -0.72, 7).tolist():
        waist = 0.58 * float(np.sqrt(1 - ((v - 0.08) / 0.86) ** 2))
        shift, gap = b.rng.random(), 0.27 / waist
        spots += [(waist, v, x) for x in np.arange(-1.5 + shift * gap, 1.5, gap).tolist()]
    for waist, v, around in sorted(spots, key=lambda spot: -abs(spot[2])):  # from the rim inwards
        c = b.child(waist * np.sin(around), v, b.rng.uniform(0.14, 0.18))
        skin = red * (1 + 0.12 * b.rng.normal())
        c.part(1 - c.u**2 - c.v**2, skin, gloss=0.35, shine=20, glow=0.4, halo=0.5)
    if b.rng.random() < 0.6:
        for angle in np.linspace(-1.9, 1.9, 6):
            draw_leaf(b, (0, 0.62), angle, 0.4, width=0.2)
        draw_stem(b, (0, 0.62), 0, 0.28, colour="7fa04a")


def draw_strawberry(b: Brush) -> None:
    waist = 0.36 + 0.42 * ramp(-0.9, 0.5, b.v)
    w2 = (0.8 - (b.v + 0.05) ** 2) * waist**2 * 1.5
    around = np.arcsin(np.clip(b.u / np.sqrt(np.maximum(w2, 0.04)), -1, 1))
    a, c = lattice(around * 2.6 + 0.12 * b.noise(4), b.v * 5.0 + 0.12 * b.noise(4))
    seed = np.hypot(a * 1.7, c)
    pale = ramp(b.rng.uniform(0.3, 0.7), 1.1, b.v + 0.1 * b.noise(5))
    skin = mix(b.pick("b80f1f", "dd2a2a"), ink("f0b9a0"), pale)
    skin = mix(skin, b.pick("e8c25a", "f0d47a"), ramp(0.24, 0.16, seed))
    b.part(w2 - b.u**2 - 0.06 * bell(seed, 0.25), skin, gloss=0.5, shine=30)
    for angle in np.linspace(-2.1, 2.1, 8) + b.rng.normal(0, 0.12, 8):
        draw_leaf(b, (0, 0.72), angle, b.rng.uniform(0.4, 0.55), width=0.17, bend=0.1)
    draw_stem(b, (0, 0.72), b.rng.normal(0, 0.4), 0.3, colour="7fa04a")


def draw_watermelon(b: Brush) -> None:
    half = b.rng.uniform(0.45, 1.57)  # half the angle of the wedge, its tip up
    c = b.child(0, 0.75 - 0.5 * (half / 1.57), 1.5 - 0.55 * (half / 1.57))
    r = np.hypot(c.u, c.v)
    side = c.v * -np.sin(half) - np.abs(c.u) * np.cos(half)
    q = np.minimum(0.5 * (1 - r * r), side)
    stripes = ramp(0.2, 0.9, np.sin(14 * np.arctan2(c.u, -c.v) + 2 * c.noise(8)))
    rind = mix(ink("1f4d24"), ink("4c8a3c"), stripes)
    rose = c.pick("d92f3a", "f0565a")
    flesh = rose * (1 + 0.06 * c.noise(10) + 0.03 * c.grain())[..., None]
    pale = mix(flesh, ink("f3efd0"), ramp(0.77, 0.85, r))
    face = mix(mix(pale, ink("a9c77a"), ramp(0.86, 0.9, r)), rind, ramp(0.91, 0.93, r))
    a, d = lattice(np.arctan2(c.u, -c.v) * 4.2 + 0.15 * c.noise(7), r * 6 + 0.2 * c.noise(7))
    seeds = ramp(0.2, 0.15, np.hypot(a * r * 1.5, d * 0.62)) * ((r > 0.3) & (r < 0.74))
    c.part(q, mix(face, ink("1c120e"), seeds), relief=0.12, gloss=0.2)


# Each draws one piece within the unit circle of its brush, upright.
FRUITS: dict[str, Callable[[Brush], None]] = {
    "Apple": draw_apple,
    "Avocado": draw_avocado,
    "Banana": draw_banana,
    "Blueberry": draw_blueberry,
    "Cherry": draw_cherry,
    "Dragon-Fruit": draw_dragon_fruit,
    "Grapes": draw_grapes,
    "Kiwi": draw_kiwi,
    "Lemon": draw_lemon,
    "Orange": draw_orange,
    "Peach": draw_peach,
    "Pear": draw_pear,
    "Pineapple": draw_pineapple,
    "Raspberry": draw_raspberry,
    "Strawberry": draw_strawberry,
    "Watermelon": draw_watermelon,
}


def lay_wood(b: Brush) -> None:
    board = np.floor(b.u * 1.6 + b.rng.random())
    grain = b.noise(26, 14) + 0.5 * np.sin(30 * b.u + 4 * b.noise(3, 3) + board * 2)
    woods = ("6b4426", "a9794c"), ("b08a5e", "d9b98c"), ("3a2a20", "5e4636"), ("a8a29a", "cfcac2")
    dark, light = woods[b.rng.integers(len(woods))]
    tone = 0.5 + 0.3 * grain + 0.15 * np.sin(board * 5)
    gap = np.abs((b.u * 1.6 - board) % 1 - 0.5)
    b.fill(mix(ink(dark), ink(light), tone) * (1 - 0.6 * ramp(0.485, 0.5, gap))[..., None])


def lay_cloth(b: Brush) -> None:
    weave = 0.04 * np.sin(75 * b.u) * np.sin(75 * b.v) + 0.05 * b.noise(4)
    pace = b.rng.uniform(6, 14)
    checks = (ramp(-0.1, 0.1, np.sin(pace * b.u)) + ramp(-0.1, 0.1, np.sin(pace * b.v))) / 2
    dyes = ink("b8343a"), ink("3a5f9a"), ink("5d8a5a"), ink("d8a83a"), ink("8a8580")
    dye = mix(ink("f1ece2"), dyes[b.rng.integers(len(dyes))], 0.8)
    b.fill(mix(ink("f1ece2"), dye, checks * (b.rng.random() < 0.7)) * (0.95 + weave)[..., None])


def lay_plate(b: Brush) -> None:
    (lay_wood, lay_cloth, lay_gradient)[b.rng.integers(3)](b)
    c = b.child(*b.rng.normal(0, 0.08, 2), b.rng.uniform(0.9, 1.1))
    r = np.hypot(c.u, c.v)
    china = mix(c.pick("dedbd4", "c9d3d9"), c.pick("3f5f8f", "b08a4a"), 0.7 * bell(r - 0.93, 0.02))
    c.part(0.3 * (1 - r**6) - 0.12 * ramp(0.74, 0.66, r), china, relief=0.6, gloss=0.2, halo=0.6)


def lay_marble(b: Brush) -> None:
    vein = np.abs(np.sin(2.5 * b.u + 1.6 * b.noise(3) + 0.6 * b.noise(9)))
    tone = 0.35 * bell(vein, 0.1) + 0.12 * b.noise(2) + 0.15
    b.fill(mix(b.pick("f3f1ee", "e4e4e6"), b.pick("77787d", "8d8478"), tone))


def lay_gradient(b: Brush) -> None:
    one, other = b.rng.uniform(0.25, 0.9, (2, 1)) + b.rng.normal(0, 0.09, (2, 3))
    b.fill(mix(np.float32(one), np.float32(other), 0.5 + 0.5 * b.v + 0.1 * b.noise(2)))


def lay_leaves(b: Brush) -> None:
    b.fill(ink("1f3a1c") * (1 + 0.3 * b.noise(6)[..., None]))
    for u, v, angle, length in b.rng.uniform((-1.3, -1.3, 0, 0.5), (1.3, 1.3, 6.28, 0.9), (22, 4)):
        greens = ("2f6428", "4a7f35") if angle < 4 else ("4a7430", "7d9a48")
        draw_leaf(b, (u, v), angle, length, width=0.28, colours=greens)


def lay_tiles(b: Brush) -> None:
    pace = b.rng.uniform(1.2, 2.2)
    a, c = (np.abs((x * pace + b.rng.random()) % 1 - 0.5) for x in (b.u, b.v))
    tile = b.pick("d9dcd6", "9fb7bd") * (1 + 0.05 * b.noise(5) + 0.02 * b.grain())[..., None]
    b.fill(mix(tile, ink("8d8a84"), ramp(0.465, 0.485, np.maximum(a, c))))


BACKGROUNDS = (lay_wood, lay_cloth, lay_plate, lay_marble, lay_gradient, lay_leaves, lay_tiles)


def draw_fruit(name: str, *, seed: int, size: int = 192) -> Image.Image:
    """Return an image of one fruit kind (one to three pieces): RGB, `size` x `size` pixels.

    The same name, seed and size give the same pixels. An unknown name raises ValueError, and so
    does a size below 16 pixels.
    """
    if name not in FRUITS:
        raise ValueError(f"{name}: not a fruit that can be drawn. Known: {', '.join(FRUITS)}.")
    if size < 16:
        raise ValueError(f"{size}: too few pixels to draw a fruit on. Ask for 16 or more.")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    light = shine_light(rng)
    image = np.zeros((size, size, 4), np.float32)
    centre, turn = np.array([size, size]) / 2, rng.uniform(0, 6.28)
    frame = np.array([[np.cos(turn), np.sin(turn)], [np.sin(turn), -np.cos(turn)]]) * size / 2
    table = Brush(image, light, rng, centre=centre, frame=frame)
    BACKGROUNDS[rng.integers(len(BACKGROUNDS))](table)
    for at, scale, angle in choose_poses(rng):
        flip = rng.choice([-1, 1])
        squash = rng.uniform(0.88, 1)
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        frame = np.array([[cos * flip, -sin * squash], [-sin * flip, -cos * squash]]) * size / 2
        layer = np.zeros_like(image)
        FRUITS[name](Brush(layer, light, rng, centre=centre + at * size / 2, frame=frame))
        put_down(image, layer, light, height=0.16 * scale * size)
    return take_photograph(image[..., :3], rng)


def shine_light(rng: np.random.Generator) -> Light:
    """Return a lamp or window: from any side but mostly above, warm or cool, hard or soft."""
    azimuth, height = rng.normal(-1.57, 1.2), rng.uniform(0.55, 1.15)
    flat = np.cos(height)
    towards = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(height)])
    ambient, warmth = rng.uniform(0.36, 0.6), rng.uniform(-0.06, 0.06)
    colour = np.float32([1 + warmth, 1, 1 - warmth]) * np.float32(1.1 - ambient * 0.8)
    return Light(towards, colour, ambient)


def choose_poses(rng: np.random.Generator) -> list[tuple[np.ndarray, float, float]]:
    """Return (place, scale, angle) of each piece, in half widths of the image."""
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
    spread = (0.1, 0.45, 0.52)[count - 1]
    scale = rng.uniform(*((0.6, 0.95), (0.45, 0.6), (0.4, 0.5))[count - 1])
    start = rng.uniform(0, 6.28)
    poses = []
    for turn in start + 6.28 * np.arange(count) / count:
        at = spread * np.array([np.cos(turn), np.sin(turn)]) + rng.normal(0, 0.05, 2)
        poses.append((at, scale * rng.uniform(0.92, 1.08), rng.normal(0, 0.7)))
    return poses


def put_down(image: np.ndarray, layer: np.ndarray, light: Light, *, height: float) -> None:
    """Lay a layer (S, S, 4) on the image, with its contact shadow and its cast shadow."""
    mask = Image.fromarray(np.uint8(layer[..., 3] * 255))
    away = -light.towards[:2] / light.towards[2] * height
    for share, reach in ((0.35, 0.3), (0.55, 1.0)):
        moved = mask.rotate(0, translate=tuple((away * reach).tolist()))
        soft = np.asarray(moved.filter(ImageFilter.GaussianBlur(height * 0.35 * reach + 0.5)))
        dark = np.float32(share * (1.1 - light.ambient) / 255) * soft
        image *= (1 - dark)[..., None]
    image *= 1 - layer[..., 3:]
    image += layer


def take_photograph(scene: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Return what a phone would make of it: vignette, exposure, white balance, blur, noise."""
    size = len(scene)
    across = np.square(np.linspace(-1, 1, size, dtype=np.float32))
    vignette = 1 - np.float32(rng.uniform(0, 0.15)) * (across[:, None] + across[None, :])
    balance = np.float32(rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.03, 3)))
    pixels = scene * vignette[..., None] * balance
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.02))
    photo = Image.fromarray(np.uint8(np.clip(pixels, 0, 1) * 255))
    return photo.filter(ImageFilter.GaussianBlur(size / 192 * rng.uniform(0, 0.7)))
