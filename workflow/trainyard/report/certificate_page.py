"""A merge's certificate as one HTML file for people: what went in, how exact the result is, how much the adapters agree."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from trainyard.data.files import write_text
from trainyard.report.certificate_facts import MEANINGS, certificate_facts
from trainyard.report.charts.pairs import agreement_charts
from trainyard.report.loose import inner, listed
from trainyard.report.markup import TEMPLATES, content_policy, plain_environment, soft
from trainyard.report.numbers import count, num, plural


def write_page(certificate: dict[str, Any], path: Path) -> None:
    write_text(path, render_certificate(certificate))


def render_certificate(certificate: dict[str, Any]) -> str:
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    environment = plain_environment()
    environment.filters |= {"soft": soft, "num": num, "count": count}
    environment.globals |= {"plural": plural}
    text = environment.get_template("certificate.html.j2").render(
        c=certificate,
        style=style,
        policy=content_policy(style),
        meaning=MEANINGS.get(str(certificate.get("strategy")), str(certificate.get("strategy"))),
        facts=list(certificate_facts(certificate)),
        charts=agreement_charts(certificate),
        layers=inner(certificate, "layers"),
        inputs=listed(certificate, "inputs"),
        same=inner(inner(certificate, "configs"), "same"),
        different=inner(inner(certificate, "configs"), "different"),
    )
    return text.encode("utf-8", "backslashreplace").decode()  # names of files may hold bytes that are no text
