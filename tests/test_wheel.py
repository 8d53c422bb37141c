"""The package works from a wheel, outside the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("features", "models", "pipelines", "projects")
LOAD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pipelines.settings import settings
settings.SHIPPED = Path(sys.argv[2])
from pipelines.definitions import defs
print(Path(settings.__file__).parents[2], settings.load().project)
print(defs().resolve_job_def("newsroom_advance_slices").name)
"""


def test_a_wheel_contains_the_projects_and_its_definitions_load(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, source / folder)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-qq"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    shipped = next(site.glob("*.data")) / "data" / "share" / "momentrank"

    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, str(site), str(shipped)],
        check=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("MOMENTRANK_")},
        capture_output=True,
        text=True,
    )

    assert loaded.stdout.split() == [
        str(site),
        str(shipped / "projects" / "newsroom.toml"),
        "newsroom_advance_slices",
    ]
