"""The README's examples are valid, and what README, docs and package docstrings name exists."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from features.catalogue import catalogue
from features.config.project import Project
from pipelines.cli.commands import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_readmes_project_file_is_valid() -> None:
    examples = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    project = Project.model_validate(tomllib.loads("\n".join(examples)))
    assert project.source.tables is not None
    assert project.labels.gains["purchase"] == 10.0
    columns = catalogue(project.behaviour)["name"]
    assert "item_surface_ctr_1h_rank" in columns
    assert "hour" not in columns


def test_the_readmes_commands_exist() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    used = set(re.findall(r"^momentrank (\w+)", README, re.MULTILINE))
    assert used
    assert used <= commands


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    missing = [
        link for link in links if not link.startswith("http") and not (document.parent / link).exists()
    ]
    assert missing == []


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:features|models|pipelines)/[\w/.]*)`", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_package_docstrings_that_list_files_list_all_of_them() -> None:
    compared = 0
    for package in (
        path for room in ("features", "models", "pipelines") for path in ROOT.glob(f"{room}/**/__init__.py")
    ):
        text = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""
        if re.search(r"^\w+\.py\b", text, re.MULTILINE):
            files = {path.name for path in package.parent.iterdir() if path.is_file() and path.name[0] != "_"}
            assert set(re.findall(r"(?<![\w/])\w+\.(?:py|html)\b", text)) == files, package
            compared += 1
    assert compared
