"""Draw a report as one HTML page: `page(contents)` takes plain data and returns the text of the file."""

from affinet.report.pages.contents import Contents
from affinet.report.pages.rendering import page

__all__ = ["Contents", "page"]
