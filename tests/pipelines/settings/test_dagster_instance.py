"""The Dagster instance's file: its storage, when it is written again, and when that is an error."""

from pathlib import Path

import pytest
import yaml

from features.errors import ProjectError
from pipelines.settings import dagster_instance as instance


def written(folder: Path) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load((folder / "dagster.yaml").read_text(encoding="utf-8"))
    return content


def test_the_file_follows_the_setting_until_it_is_edited(tmp_path: Path) -> None:
    instance.write(tmp_path, postgres=True)
    assert written(tmp_path)["storage"] == {
        "postgres": {"postgres_url": {"env": "MOMENTRANK_DAGSTER_POSTGRES"}}
    }

    instance.write(tmp_path, postgres=False)
    assert "storage" not in written(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["dagster.yaml"]


@pytest.mark.parametrize(
    ("edited", "postgres"),
    [
        ("telemetry: {enabled: false}\n", True),
        (instance.POSTGRES_YAML + "run_retries: {enabled: true}\n", False),
    ],
)
def test_an_edited_file_with_other_storage_is_an_error_and_stays(
    tmp_path: Path, edited: str, postgres: bool
) -> None:
    (tmp_path / "dagster.yaml").write_text(edited, encoding="utf-8")

    with pytest.raises(ProjectError, match="delete that file"):
        instance.write(tmp_path, postgres=postgres)

    assert (tmp_path / "dagster.yaml").read_text(encoding="utf-8") == edited


def test_a_binary_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_bytes(b"\x00\xff{{{:")
    with pytest.raises(ProjectError, match="is not valid UTF-8: fix it, or delete it"):
        instance.write(tmp_path, postgres=False)
