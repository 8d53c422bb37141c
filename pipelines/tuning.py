"""`momentrank tune`: search settings on the lake's slices, track each trial, print the best. Registers nothing."""

from features.errors import ModelError
from models.ranker.tuning import Trial, Tuning, tuning_metric
from models.ranker.tuning import tune as search
from models.registry.registry import Registry
from models.registry.tracking import measures
from pipelines.slice_tables import SliceTables
from pipelines.terminal import Terminal, styled


def tune(
    tables: SliceTables,
    registry: Registry,
    out: Terminal,
    trials: int,
    folds: int,
    seconds: float | None = None,
) -> Tuning:
    """Search settings on the newest slices, printing one line per trial. Raises ModelError before the first run."""
    project, lake = tables.project, tables.lake
    slices = lake.slices("ranking_dataset")[-(project.ranker.window + folds) :]
    if not slices:
        raise ModelError("there is no ranking dataset to tune on yet: `momentrank run` makes one")
    dataset = lake.read("ranking_dataset", slices)
    metric, best = tuning_metric(dataset, project.promotion), float("-inf")
    parameters = {"trials": trials, "folds": folds, "slices": f"{slices[0]} … {slices[-1]}"}
    with registry.track("tuning", slices[-1], (), parameters):

        def report(trial: Trial) -> None:
            nonlocal best
            scores = {f"{metric} fold {n}": value for n, value in enumerate(trial.values, 1)}
            measured = measures({metric: trial.value, "seconds": trial.seconds, **scores})
            with registry.track("trial", slices[-1], measured, trial.settings):
                pass
            mark, best = ("best" if trial.value > best else "    "), max(best, trial.value)
            settings = ", ".join(f"{name} {value:.4g}" for name, value in trial.settings.items())
            line = styled(
                (f"trial {trial.number:>3}/{trials}  {metric} {trial.value:.4f}  ", ""),
                (mark, "bold green"),
                (f"  {settings}  ", ""),
                (f"{trial.seconds:.1f} s", "dim"),
            )
            out.print(line, soft_wrap=True)

        tuning = search(
            dataset, project.ranker, project.labels, metric, project.seed, trials, folds, seconds, report
        )
    _print_best(out, tuning)
    return tuning


def _print_best(out: Terminal, tuning: Tuning) -> None:
    """Print the best settings, to paste into the project file, or that the current ones are best."""
    current, best = tuning.trials[0], tuning.best
    folds = ", ".join(f"{value:.4f}" for value in best.values)
    if best.number == 0:
        out.print(
            f"the current settings are best: {tuning.metric} {current.value:.4f} (folds {folds})",
            soft_wrap=True,
        )
        return
    mean, least, greatest = tuning.gain()
    out.print(
        f"{tuning.metric} {best.value:.4f} against {current.value:.4f}: {mean:+.4f} "
        f"({least:+.4f} to {greatest:+.4f} over {len(best.values)} folds). The settings were chosen on these "
        f"folds: expect a smaller gain on new impressions.",
        soft_wrap=True,
    )
    rows = (
        f"{name} = {float(f'{v:.4g}') if isinstance(v, float) else v}" for name, v in best.settings.items()
    )
    out.print("\n".join(["", "[ranker]", *rows]))
