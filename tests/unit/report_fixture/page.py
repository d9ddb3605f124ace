"""What tests look for in a report and in its page."""

from html.parser import HTMLParser

from trainyard.report.views.runs import Model
from trainyard.report.views.whole import Report

VOID = {"meta", "link", "input", "br", "img", "wbr", "hr", "path", "rect", "circle", "line"}


class Page(HTMLParser):
    """Tags with attributes, ids, the text of each table row, and whether every tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[str] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name == "tr":
            self.rows.append("")
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.tags.append((name, dict(attributes)))

    def handle_endtag(self, name):
        if name in VOID:
            return
        if not self.open or self.open[-1] != name:
            self.unbalanced.append(f"{name} closes {self.open[-3:]}")
        else:
            self.open.pop()

    def handle_data(self, text):
        if "tr" in self.open:
            self.rows[-1] += " " + text.strip()


def model_named(report: Report, name: str) -> Model:
    return next(m for m in report.models if m.name == name)
