"""Videos of a ball on a known path, seen by several cameras: the demo data of mono_to_3d, in its own layout.

    samples/sample_00000.npz   video uint8 (cameras, frames, 3, size, size), positions float32 (frames + 1, 3)
    labels.csv                 file,class

The last position is the one after the last frame: what a model must foresee. Four kinds of path, exactly balanced.
"""

import csv
from pathlib import Path

import numpy as np

from trainyard.data.files import replacing

KINDS = ("linear", "circular", "helical", "parabolic")
DISTANCE, ELEVATION, FOCAL = 4.0, np.deg2rad(20), 1.25


def generate(
    folder: Path, seed: int = 0, samples: int = 10_000, cameras: int = 4, frames: int = 32, size: int = 64, noise: float = 0.06
) -> None:
    """Write `samples` videos and their labels below `folder`.

    `noise` is the standard deviation of every pixel's noise, in units of full brightness. Every sample draws from
    a generator of its own, so a larger corpus begins with the smaller one. Raises ValueError where the classes
    could not be balanced exactly.
    """
    if samples < 1 or samples % len(KINDS):
        raise ValueError(f"generate.samples is {samples}: take a multiple of {len(KINDS)}, or the classes cannot be exactly balanced")
    if min(cameras, frames) < 1 or size < 8:
        raise ValueError(f"generate: {cameras} cameras × {frames} frames × {size} pixels is no video: at least 1 × 1 × 8")
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    views = [camera(i) for i in range(cameras)]
    rows = []
    for i in range(samples):
        # A new order within every four: the number of a sample does not tell its class.
        kind = KINDS[np.random.default_rng([seed, 1, i // len(KINDS)]).permutation(len(KINDS))[i % len(KINDS)]]
        rng = np.random.default_rng([seed, 0, i])
        positions = path(kind, frames, rng)
        name = f"samples/sample_{i:05d}.npz"
        np.savez(folder / name, video=render(positions[:frames], views, size, noise, rng), positions=positions)
        rows.append((name, kind))
    with replacing(folder / "labels.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "class"))
        writer.writerows(rows)


def path(kind: str, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Positions (frames + 1, 3), float32, inside about [-1, 1]³; z points up."""
    t = np.linspace(0, 1, frames + 1)
    zero = np.zeros_like(t)
    if kind == "linear":
        p = np.stack([(t - 0.5) * rng.uniform(0.8, 1.8), zero, zero], 1) @ rotation(rng).T
    elif kind in ("circular", "helical"):
        turns, radius, start = rng.uniform(0.9, 1.6), rng.uniform(0.4, 0.75), rng.uniform()
        angle = 2 * np.pi * (turns * t + start)
        rise = rng.uniform(0.7, 1.4) * (t - 0.5) if kind == "helical" else zero
        p = np.stack([radius * np.cos(angle), radius * np.sin(angle), rise], 1) @ rotation(rng).T
    elif kind == "parabolic":
        # Gravity stays down, so a throw is only turned about the vertical.
        u, yaw = t - rng.uniform(0.3, 0.7), rng.uniform(0, 2 * np.pi)
        along = rng.uniform(0.7, 1.5) * u
        p = np.stack([along * np.cos(yaw), along * np.sin(yaw), -rng.uniform(1.6, 3.0) * u * u], 1)
        p -= p.mean(0)
    else:
        raise ValueError(f"no path is called '{kind}'; known: {', '.join(KINDS)}")
    return (p + rng.uniform(-0.2, 0.2, 3)).astype(np.float32)


def rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation matrix (3, 3), uniform over all: from a random unit quaternion."""
    q = rng.normal(size=4)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def camera(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Place (3,) and axes (3, 3: right, up, forward) of a camera that looks at the origin.

    The first four stand a quarter turn apart, the next four between them, and so on.
    """
    ring, corner = divmod(number, 4)
    azimuth = np.pi / 2 * (corner + sum(((ring >> b) & 1) / 2 ** (b + 1) for b in range(8)))
    place = DISTANCE * np.array([np.cos(azimuth) * np.cos(ELEVATION), np.sin(azimuth) * np.cos(ELEVATION), np.sin(ELEVATION)])
    forward = -place / DISTANCE
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return place, np.stack([right, np.cross(right, forward), forward])


def project(positions: np.ndarray, views: list[tuple[np.ndarray, np.ndarray]], size: int) -> np.ndarray:
    """Positions (frames, 3) to column, row and depth in every camera, (cameras, frames, 3): pixels, pixels, units."""
    seen = np.stack([(positions - place) @ axes.T for place, axes in views])
    scale = size * FOCAL / seen[..., 2:]
    return np.concatenate([size / 2 + scale * seen[..., :1], size / 2 - scale * seen[..., 1:2], seen[..., 2:]], -1)


def render(
    positions: np.ndarray, views: list[tuple[np.ndarray, np.ndarray]], size: int, noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Video (cameras, frames, 3, size, size), uint8: a ball of one colour before a background of another, with noise."""
    back, ball, radius = rng.uniform(0, 0.35, 3), rng.uniform(0.55, 1.0, 3), rng.uniform(0.10, 0.16)
    column, row, depth = np.moveaxis(project(positions, views, size), -1, 0).astype(np.float32)[..., None, None]
    grid = np.arange(size, dtype=np.float32)
    distance = np.sqrt((grid - column) ** 2 + (grid[:, None] - row) ** 2)
    cover = np.clip(np.float32(size * FOCAL * radius) / depth - distance + 0.5, 0, 1)[:, :, None]  # (cameras, frames, 1, h, w)
    image = rng.standard_normal((len(views), len(positions), 3, size, size), np.float32)
    image *= np.float32(255 * noise)
    image += cover * np.float32(255) * (ball - back).astype(np.float32)[:, None, None]
    image += np.float32(255) * back.astype(np.float32)[:, None, None]
    return np.clip(image, 0, 255, out=image).astype(np.uint8)
