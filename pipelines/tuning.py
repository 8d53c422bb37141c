"""`momentrank tune`: read the slices, search, track each trial, say what came of it. Nothing is registered."""

from features.errors import ModelError
from models.ranker.tuning import Trial, Tuning, tuning_metric
from models.ranker.tuning import tune as search
from models.registry.tracking import measures
from pipelines.deployment import Deployment
from pipelines.terminal import Terminal, styled


def tune(
    deployment: Deployment, out: Terminal, trials: int, folds: int, seconds: float | None = None
) -> Tuning:
    """Search over the newest slices of the lake, a line a trial. Raises ModelError before the first run."""
    project, lake = deployment.project, deployment.lake
    slices = lake.slices("ranking_dataset")[-(project.ranker.window + folds) :]
    if not slices:
        raise ModelError(
            f"there is no ranking dataset to tune on yet: momentrank run {deployment.settings.project}"
        )
    dataset = lake.read("ranking_dataset", slices)
    metric, best = tuning_metric(dataset, project), float("-inf")
    asked = {"trials": trials, "folds": folds, "slices": f"{slices[0]} … {slices[-1]}"}
    with deployment.registry.track("tuning", slices[-1], (), asked):

        def tried(trial: Trial) -> None:
            nonlocal best
            scores = {f"{metric} fold {n}": value for n, value in enumerate(trial.values, 1)}
            measured = measures({metric: trial.value, "seconds": trial.seconds, **scores})
            with deployment.registry.track("trial", slices[-1], measured, trial.settings):
                pass
            mark, best = ("best" if trial.value > best else "    "), max(best, trial.value)
            shown = styled(
                (f"trial {trial.number:>3}/{trials}  {metric} {trial.value:.4f}  ", ""),
                (mark, "bold green"),
                (f"  {_told(trial)}  ", ""),
                (f"{trial.seconds:.1f} s", "dim"),
            )
            out.print(shown, soft_wrap=True)

        found = search(dataset, project, trials, folds, seconds, tried)
    _conclude(out, found)
    return found


def _told(trial: Trial) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in trial.settings.items())


def _conclude(out: Terminal, found: Tuning) -> None:
    """The best settings to paste into the project file, or that the present ones stand."""
    present, best = found.trials[0], found.best
    folds = ", ".join(f"{value:.4f}" for value in best.values)
    if best.number == 0:
        out.print(
            f"the present settings did best: {found.metric} {present.value:.4f} (folds {folds})",
            soft_wrap=True,
        )
        return
    mean, least, greatest = found.gain()
    out.print(
        f"{found.metric} {best.value:.4f} against {present.value:.4f}: {mean:+.4f} "
        f"({least:+.4f} to {greatest:+.4f} over {len(best.values)} folds). These folds chose the settings, so "
        f"expect less of new lists.",
        soft_wrap=True,
    )
    rows = (
        f"{name} = {float(f'{v:.4g}') if isinstance(v, float) else v}" for name, v in best.settings.items()
    )
    out.print("\n".join(["", "[ranker]", *rows]))
