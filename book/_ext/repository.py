"""Sphinx extension: buttons that lead to the repository, where `_config.yml` names one.

`repository.url` is the one setting. While it is empty no page has such a button.
"""

from sphinx.application import Sphinx
from sphinx.config import Config

BINDER = {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"}


def add_buttons(_app: Sphinx, config: Config) -> None:
    """Switch on the theme's buttons: the repository, a new issue, and the chapter on Binder."""
    options = config.html_theme_options
    if options.get("repository_url"):
        options |= {"use_repository_button": True, "use_issues_button": True}
        options["launch_buttons"] = BINDER


def setup(app: Sphinx) -> None:
    """Register the hook."""
    app.connect("config-inited", add_buttons)
