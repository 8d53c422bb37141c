from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.interest import benchmark
from models.interest.benchmark import main, random_encoder, synthetic
from models.interest.config import InterestConfig, InterestModelError
from models.interest.encoder import TextEncoder
from models.interest.saved_fit import load_arrays, save_arrays


def test_arrays_come_back_as_they_were_saved(
    tmp_path: Path, random_items: Callable, random_moments: Callable
) -> None:
    items, moments = random_items(20), random_moments(1)
    config = InterestConfig(tune="lora", numbers=("length", "price"))

    save_arrays(tmp_path, items, moments, config)
    found_items, found_moments, found_config = load_arrays(tmp_path)

    assert found_items.digest() == items.digest()
    assert found_moments.digest() == moments.digest()
    assert found_config == config
    assert isinstance(found_moments.label, np.memmap)


def test_a_folder_without_arrays_says_how_they_are_written(tmp_path: Path) -> None:
    with pytest.raises(InterestModelError, match="save_arrays"):
        load_arrays(tmp_path)


def test_synthetic_arrays_are_sound_and_the_same_each_time() -> None:
    items, moments, config = synthetic(20)

    items.check(config)
    moments.check(len(items), len(config.actions))
    assert moments.digest() == synthetic(20)[1].digest()


def test_a_random_encoder_reads_a_word_as_a_token(tmp_path: Path) -> None:
    folder = random_encoder(
        tmp_path, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )

    ids = TextEncoder(str(folder), device="cpu").tokenise(["w1 w2 w7999", "unknown"])

    assert [len(row) for row in ids] == [5, 3]


def test_the_report_has_a_figure_for_every_way(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny_encoder: str,
    random_items: Callable,
    random_moments: Callable,
) -> None:
    save_arrays(tmp_path, random_items(20), random_moments(1), InterestConfig())

    failed = main([str(tmp_path), "--encoder", tiny_encoder, "--tune", "full", "--device", "cpu"])

    printed = capsys.readouterr().out
    assert failed == 0
    assert printed.count("| peak unknown |") == 2
    assert "| impressions per second (median step) |" in printed
    assert float(printed.split("least cosine, bf16 to float32 | ")[1].split(" ")[0]) > 0.99


def test_several_workers_are_set_against_one(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_encoder: str,
    random_items: Callable,
    random_moments: Callable,
) -> None:
    save_arrays(tmp_path, random_items(20), random_moments(1), InterestConfig())
    groups: list[int] = []

    def launch_here(function: Callable, fit: object, workers: int) -> None:
        groups.append(workers)
        function(fit)

    monkeypatch.setattr(benchmark, "launch", launch_here)
    main([str(tmp_path), "--encoder", tiny_encoder, "--tune", "frozen", "--device", "cpu", "--workers", "3"])

    printed = capsys.readouterr().out
    assert groups == [1, 3]
    assert "| workers (steps of 3 passes) |" in printed
    assert "| 100% |" in printed


def test_without_arrays_it_asks_for_some(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])

    assert "--synthetic" in capsys.readouterr().err
