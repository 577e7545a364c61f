"""Configure Sphinx for `make docs`: the Markdown files that forges show, as a site.

The source folder is the repository, so that links such as `../CONTRIBUTING.md` lead where they lead in a checkout:

    sphinx-build -b html -c docs . build/site
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from affinet import __version__  # noqa: E402
from tools import api_objects, site_pages  # noqa: E402

project = "affinet"
release = version = __version__
copyright = "the authors of affinet, Apache-2.0"  # noqa: A001  (Sphinx names it)
language = "en"

extensions = ["myst_parser", "sphinx_design", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/fuzz/README.md"]
exclude_patterns = [".*", ".venv*", "build", "dist", "src", "benchmarks", "examples", "constraints"]

# Formulas are Unicode and code, as a terminal shows them: no page needs a script of MathJax.
myst_enable_extensions = ["colon_fence", "html_image"]
myst_heading_anchors = 4
myst_url_schemes = ("http", "https", "mailto")
suppress_warnings = ["myst.xref_ambiguous"]
nitpicky = True
# Types in signatures that are no public names: of other libraries, and of values that functions return.
nitpick_ignore_regex = [(r"py:class", r"[\w.]+")]

html_theme = "furo"
html_title = "affinet"
html_static_path = ["site/site.css", "site/site.js"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["site/index.html"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_exclude = ".linenos, .gp, .go"
toc_object_entries_show_parents = "hide"
python_display_short_literal_types = True

NAMES = frozenset(api_objects.full_names())


def prepare_page(app, docname, source):
    """Give a page what only the site has: cards, the tree of pages, links of public names, whole docstrings."""
    if docname == "docs/api":
        source[0] = api_objects.page()
    else:
        source[0] = site_pages.with_links(site_pages.prepared(source[0]), NAMES)


def level_headings(app, pagename, templatename, context, doctree):
    """Say of which level the headings of the navigation are, which Sphinx leaves out and screen readers need."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app):
    """Register both; Furo makes the navigation at the usual priority."""
    app.connect("source-read", prepare_page)
    app.connect("html-page-context", level_headings, priority=900)
