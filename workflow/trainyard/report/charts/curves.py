"""Loss by epoch, training and validation, with the epoch whose weights were kept."""

from markupsafe import Markup

from trainyard.report.charts.svg import circle, figure, line, shortened, spanning, tag, text
from trainyard.report.numbers import num
from trainyard.report.views.runs import History, Run

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 280.0, 176.0, 40.0, 34.0, 26.0
MOST = 12


def curves(model: str, runs: list[Run], label: str) -> Markup:
    """One model; its runs (at most 12) over each other."""
    whole = [(r.name, r.history) for r in runs if r.history]
    histories = whole[:MOST]
    losses = [v for _, h in histories for v in (*h.train, *h.validation) if v is not None]
    last = max((e for _, h in histories for e in h.epochs), default=1.0)
    first = min((e for _, h in histories for e in h.epochs), default=0.0)
    y = spanning(losses, HEIGHT - BOTTOM, TOP)
    x = spanning([first, last], LEFT + 4, WIDTH - 8, 0.02)
    parts = [text(0, 12, shortened(model, 34), "tb", tip=model), text(0, 26, _kept([h for _, h in histories], len(whole)), "tm")]
    for value, words in y.ticks(4):
        parts += [line(LEFT, y(value), WIDTH - 4, y(value), "grid"), text(LEFT - 5, y(value) + 3.5, words, "tm", "end")]
    for value, _ in x.ticks(5):
        if value == int(value):
            parts.append(text(x(value), HEIGHT - BOTTOM + 14, str(int(value)), "tm", "middle"))
    parts.append(line(LEFT, HEIGHT - BOTTOM, WIDTH - 4, HEIGHT - BOTTOM, "ax"))
    thin = " thin" if len(histories) > 1 else ""
    for name, h in histories:
        for losses_of, class_ in ((h.train, "train"), (h.validation, "validation")):
            parts.append(_path(h.epochs, losses_of, x, y, f"curve {class_}{thin}", f"{name}: {class_}"))
    for name, h in histories:
        kept = next((v for e, v in zip(h.epochs, h.validation) if e == h.best), None)
        if h.best is not None and kept is not None:
            if len(histories) == 1:
                parts.append(line(x(h.best), TOP, x(h.best), HEIGHT - BOTTOM, "kept"))
            parts.append(circle(x(h.best), y(kept), 3.8 if not thin else 2.8, "ring", f"{name}: epoch {h.best}, {num(kept)}"))
    parts.append(text(WIDTH - 4, HEIGHT - 1, "epoch", "tm", "end"))
    return figure(WIDTH, HEIGHT + 2, label, parts)


def _kept(histories: list[History], of: int) -> str:
    best = [h.best for h in histories if h.best is not None]
    if len(histories) == 1 and best:
        return f"epoch {best[0]} of {int(max(histories[0].epochs))} kept"
    runs = f"{len(histories)} of {of} runs" if of > len(histories) else f"{of} runs"
    if best:
        return (
            f"{runs}; epoch{'s' if min(best) < max(best) else ''} {min(best)}"
            + (f" to {max(best)}" if min(best) < max(best) else "")
            + " kept"
        )
    return runs if len(histories) > 1 else ""


def _path(epochs: tuple[float, ...], losses: tuple[float | None, ...], x, y, class_: str, tip: str) -> Markup:
    points, pen = [], "M"
    for epoch, loss in zip(epochs, losses):
        if loss is None:
            pen = "M"
            continue
        points.append(f"{pen}{x(epoch):.1f} {y(loss):.1f}")
        pen = "L"
    return tag("path", tag("title", tip), d="".join(points), class_=class_) if points else Markup("")
