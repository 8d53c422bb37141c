"""What the README shows works as shown."""

import re
import tomllib
from pathlib import Path

from typer.main import get_command

from features.catalogue import catalogue
from features.config.project import Project
from pipelines.cli.commands import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_project_file_is_valid() -> None:
    shown = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    project = Project.model_validate(tomllib.loads("\n".join(shown)))
    assert project.source.tables is not None
    assert project.labels.gains["purchase"] == 10.0
    columns = catalogue(project)["name"]
    assert "item_surface_ctr_1h_rank" in columns
    assert "hour" not in columns


def test_its_commands_exist() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    shown = set(re.findall(r"^momentrank (\w+)", README, re.MULTILINE))
    assert shown
    assert shown <= known


def test_its_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
