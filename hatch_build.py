"""What is built knows the commit that it was built from, which ``nvreg --version`` prints."""

import runpy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Adds ``nvreg/commit.txt`` to a sdist, and to a wheel that is built from a checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the file, where there is a checkout; one that is installed as it is asks git itself."""
        root = Path(self.root)
        environment = runpy.run_path(str(root / "nvreg" / "environment.py"))
        if version == "editable" or (commit := environment["git_commit"](root)) is None:
            return
        self._directory = TemporaryDirectory()
        file = Path(self._directory.name) / "commit.txt"
        file.write_text(commit + "\n")
        build_data["force_include"][str(file)] = f"nvreg/{environment['COMMIT_FILE']}"
