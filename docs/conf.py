"""Settings of the site that `make site` builds from these pages."""

project = "schedsearch"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
myst_heading_anchors = 3
html_theme = "furo"
html_title = "schedsearch"
