"""A page as a parser sees it."""

import re
from html.parser import HTMLParser

from nndl_suite.report.page import write_report


class Reader(HTMLParser):
    """What a page loads, what it says, and whether its tags and ids are in order."""

    _VOID = frozenset(("meta", "img", "br", "link", "input"))

    def __init__(self, html):
        super().__init__()
        self.open, self.loads, self.texts, self.ids, self.images = [], [], [], [], []
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in self._VOID:
            self.open.append(tag)
        self.loads += [attributes[key] for key in ("src", "href", "poster", "xlink:href") if key in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes] if tag == "img" else []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self._VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def named(self, *names):
        """The attributes of all tags of these names, in order."""
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def text(self):
        """All that it says, with single blanks."""
        return re.sub(r"\s+", " ", " ".join(self.texts))


def page_of(runs, tmp_path):
    """Its text, and what a parser makes of it."""
    file = write_report(runs, tmp_path / "pages" / "report.html")
    html = file.read_text(encoding="utf-8")
    return html, Reader(html)
