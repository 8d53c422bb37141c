"""`python -m features PROJECT`: print the project's feature catalogue as Markdown."""

import sys
from pathlib import Path

from features.catalogue import as_markdown
from features.config.project import load

project = load(Path(sys.argv[1]))
print(as_markdown(project.name, project.behaviour), end="")
