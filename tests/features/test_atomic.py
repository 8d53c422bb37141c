from pathlib import Path

import pytest

from features.atomic import replacing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    with replacing(file) as draft:
        draft.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(file) as draft:
        draft.write_text("new \udc80", encoding="utf-8")

    assert file.read_text() == "old"
    assert [*tmp_path.iterdir()] == [file]
