"""Hatch calls this for the links in the package's metadata: they follow `repository.url`."""

from pathlib import Path
from typing import Any

import yaml
from hatchling.metadata.plugin.interface import MetadataHookInterface


class Links(MetadataHookInterface):
    """`project.urls`, where `_config.yml` names a repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the links to the metadata of pyproject.toml."""
        config = yaml.safe_load(Path(self.root, "_config.yml").read_text())
        if address := config["repository"]["url"]:
            metadata["urls"] = {"Repository": address, "Issues": f"{address}/issues"}
