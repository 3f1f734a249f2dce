"""Sphinx settings of the site that `make site` builds from these pages."""

project = "schedsearch"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "schedsearch"
