"""Attention over a clip: its frames with the light on what is looked at, a bar a time step, and from which step to which."""

import base64
import struct
import zlib

import numpy as np
from markupsafe import Markup

from trainyard.report.charts.svg import figure, tag, text
from trainyard.report.numbers import percent
from trainyard.report.views.extras import Attention

SIDE, GAP, BAR, MOST = 60.0, 4.0, 26.0, 6
TOP = 16.0


def attention(sample: Attention, label: str) -> Markup:
    """Of the last layer, mean over heads and over the tokens that look."""
    steps, rows, columns = sample.grid
    shown = sorted({round(i) for i in np.linspace(0, steps - 1, min(steps, MOST))})
    received = sample.received.reshape(steps, rows, columns)
    by_step, most = received.sum((1, 2)), received.max() or 1.0
    parts = []
    for place, step in enumerate(shown):
        x = place * (SIDE + GAP)
        frame = min(len(sample.frames) - 1, int((step + 0.5) * len(sample.frames) / steps))
        parts += [text(x, 11, f"frame {frame + 1}", "tm"), _picture(sample.frames[frame], x)]
        if rows * columns > 1:
            cell_w, cell_h = SIDE / columns, SIDE / rows
            parts += [
                tag("rect", tag("title", percent(float(value))), x=x + c * cell_w, y=TOP + r * cell_h, width=cell_w, height=cell_h,
                    class_="glow", fill_opacity=f"{0.75 * value / most:.2f}")
                for r, row in enumerate(received[step]) for c, value in enumerate(row)
            ]  # fmt: skip
        height = BAR * by_step[step] / (by_step.max() or 1.0)
        tip = f"frame {frame + 1}: {percent(float(by_step[step]))} of the attention"
        bottom = TOP + SIDE + 4 + BAR
        parts.append(tag("rect", tag("title", tip), x=x, y=float(bottom - height), width=SIDE, height=float(height), class_="bar look"))
    left = len(shown) * (SIDE + GAP) + 14
    return figure(left + SIDE + BAR + 4, TOP + SIDE + BAR + 6, label, parts + _matrix(sample.between, left))


def _matrix(between: np.ndarray, left: float) -> list[Markup]:
    """From a time step (row) to a time step (column)."""
    k, most = len(between), between.max() or 1.0
    cell = (SIDE + BAR + 4) / k
    parts = [text(left, 11, "step to step", "tm")]
    for i, row in enumerate(between):
        for j, value in enumerate(row):
            tip = f"from step {i + 1} to step {j + 1}: {percent(float(value))}"
            parts.append(
                tag("rect", tag("title", tip), x=left + j * cell, y=TOP + i * cell, width=cell, height=cell,
                    class_="cell", fill_opacity=f"{0.04 + 0.9 * value / most:.2f}")
            )  # fmt: skip
    return parts


def _picture(frame: np.ndarray, x: float) -> Markup:
    data = base64.b64encode(png(frame.transpose(1, 2, 0))).decode()
    return tag("image", x=x, y=TOP, width=SIDE, height=SIDE, class_="pixels", href=f"data:image/png;base64,{data}")


def png(pixels: np.ndarray) -> bytes:
    """pixels (h, w, 3) uint8 as a PNG file (https://www.w3.org/TR/png-3/)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels, np.uint8))  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits of red, green and blue
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
