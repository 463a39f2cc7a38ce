"""Pure RL beside another library's learner on the same budget: `python -m studies.zoo --help`.

stable-baselines3's DQN and SAC, with the settings that its authors' RL Zoo recommends for a task, play
Gymnasium's game under this suite's limit of steps and are evaluated as often, in as many greedy episodes, as
the protocol says. What they earn stands beside pure RL of the task's saved run. Needs stable-baselines3
(`pip install stable-baselines3`).
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import pathlib
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from loro_jax import files, progress
from loro_jax.analysis import statistics
from loro_jax.errors import UserError, arguments, run, within
from studies.goals import last

ZOO = "RL Zoo (github.com/DLR-RM/rl-baselines3-zoo), hyperparams/{file} at {commit}"
RECOMMENDED: dict[str, dict[str, Any]] = {
    "cartpole": {
        "algorithm": "DQN",
        "source": ZOO.format(file="dqn.yml", commit="ce95481"),
        "settings": {
            "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000,
            "gamma": 0.99, "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128,
            "exploration_fraction": 0.16, "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    },
    "mountain_car": {
        "algorithm": "DQN",
        "source": ZOO.format(file="dqn.yml", commit="ce95481"),
        "settings": {
            "learning_rate": 4e-3, "batch_size": 128, "buffer_size": 10_000, "learning_starts": 1000,
            "gamma": 0.98, "target_update_interval": 600, "train_freq": 16, "gradient_steps": 8,
            "exploration_fraction": 0.2, "exploration_final_eps": 0.07,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    },
    "pendulum": {
        "algorithm": "SAC",
        "source": ZOO.format(file="sac.yml", commit="00128b5"),
        "settings": {"learning_rate": 1e-3},
    },
}  # fmt: skip
"""Of the tasks that the Zoo has: what it recommends, names as stable-baselines3 has them."""


@dataclasses.dataclass(frozen=True)
class Options:
    task: str = "cartpole"
    """One that the RL Zoo has settings for: cartpole, mountain_car or pendulum."""
    protocol: str = ""
    """Whose budget and evaluations, and whose saved run; the task's default one where none is named."""
    seeds: int = 16
    """Seeds, each a training in a process of its own."""
    jobs: int = 2
    """Trainings side by side, one thread each."""
    results: pathlib.Path = pathlib.Path("results")
    """Folder with <task>/<protocol>, the saved run."""
    out: pathlib.Path = pathlib.Path("results/tuning/zoo")
    """Folder for <task>.json, which goes on where it was, and README.md."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    o = arguments(lambda: tyro.cli(Options, prog="python -m studies.zoo", description=__doc__, args=argv))
    within("--seeds", o.seeds, 2, 10_000)
    within("--jobs", o.jobs, 1, 1024)
    if o.task not in RECOMMENDED:
        raise UserError(f"the RL Zoo recommends nothing for '{o.task}'; there are: {', '.join(RECOMMENDED)}")
    record = _record(o)
    saved = o.results / o.task / record["protocol"]
    if not (saved / "summary.json").exists():
        raise UserError(f"{saved}: no saved run to compare with; train it, or name another --protocol")
    try:
        import stable_baselines3
    except ImportError:
        raise UserError("the other library is stable-baselines3: pip install stable-baselines3") from None
    record |= {"stable_baselines3": stable_baselines3.__version__}
    path = o.out / f"{o.task}.json"
    with files.claimed(path):
        kept = files.read_json(path) if path.exists() else record | {"curves": {}}
        if {k: v for k, v in kept.items() if k != "curves"} != json.loads(json.dumps(record)):
            raise UserError(f"{path}: is of other settings or another version; move it away")
        _train(o, record, kept, path)
    written = o.out / "README.md"
    files.write_text(written, page(o.out, o.results))
    print(f"{len(kept['curves'])} seeds: {path}; {written}")
    return 0


def _record(o: Options) -> dict[str, Any]:
    """What is trained, as JSON."""
    from loro_jax.tasks import load

    task = load(o.task)
    protocol = task.protocol(o.protocol)
    schedule = protocol.schedule
    return {
        "task": o.task, "protocol": protocol.name, **RECOMMENDED[o.task], "gymnasium_id": task.gymnasium_id,
        "limit": task.environment().limit, "budget": schedule.budget,
        "eval_interval": schedule.eval_interval, "eval_episodes": schedule.eval_episodes,
    }  # fmt: skip


def _train(o: Options, record: dict[str, Any], kept: dict[str, Any], path: pathlib.Path) -> None:
    """The seeds that the file does not have yet, each kept when it is done."""
    left = [seed for seed in range(o.seeds) if str(seed) not in kept["curves"]]
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(min(o.jobs, len(left)) or 1, spawned) as pool:
        asked = {pool.submit(trained, record, seed): seed for seed in left}
        done = concurrent.futures.as_completed(asked)
        for _ in progress.track(left, f"{record['algorithm']} on {o.task}", Console(stderr=True)):
            one = next(done)
            kept["curves"][str(asked[one])] = one.result()
            files.write_json(path, kept)


def trained(record: dict[str, Any], seed: int) -> list[float]:
    """A training of the other library; -> mean returns of its evaluations."""
    import gymnasium
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)

    def game() -> Any:
        return gymnasium.make(record["gymnasium_id"], max_episode_steps=record["limit"])

    returns: list[float] = []

    class Evaluations(BaseCallback):  # type: ignore[misc, unused-ignore]
        def _on_step(self) -> bool:
            if self.num_timesteps % record["eval_interval"] == 0:
                mean, _ = evaluate_policy(self.model, held_out, record["eval_episodes"], warn=False)
                returns.append(round(float(mean), 4))
            return True

    held_out = game()
    held_out.reset(seed=100_000 + seed)
    algorithm = getattr(stable_baselines3, record["algorithm"])
    model = algorithm("MlpPolicy", game(), seed=seed, device="cpu", **record["settings"])
    model.learn(record["budget"], callback=Evaluations())
    return returns[: record["budget"] // record["eval_interval"]]


def page(folder: pathlib.Path, results: pathlib.Path) -> str:
    """Markdown of all tasks in the folder, pure RL of the saved run beside each."""
    lines = [
        "# Pure RL beside another library's learner", "",
        "    python -m studies.zoo --task cartpole    # mountain_car, pendulum", "",
        "stable-baselines3 with the settings that its RL Zoo recommends, for budgets of its own."
        " Same game, limit, budget and evaluations; seeds of its own. IQM over seeds [95 %]; the"
        " difference is of mean cumulative returns, pure RL's less the other's.", "",
        "| task | steps | learner | seeds | cumulative return | final return | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    sources = []
    for path in sorted(folder.glob("*.json")):
        r = files.read_json(path)
        theirs = _curves(path, r)
        saved = files.read_npz(results / r["task"] / r["protocol"] / "curves.npz")
        ours, _ = statistics.filled(saved["pure_rl"], None)
        c = statistics.unpaired(ours.sum(axis=1), theirs.sum(axis=1), seed=statistics.SEED)
        told = f"{c.difference:+,.0f} [{c.difference_ci[0]:+,.0f}, {c.difference_ci[1]:+,.0f}]"
        name = f"stable-baselines3 {r['stable_baselines3']}, {r['algorithm']}"
        lines.append(_row(r, f"pure RL, `{r['protocol']}`", ours, told))
        lines.append(_row(r, name, theirs, ""))
        said = ", ".join(f"{k} {v}" for k, v in r["settings"].items())
        sources.append(f"- {r['task']}: {r['source']}: {said}")
    return "\n".join([*lines, "", *sources]) + "\n"


def _curves(path: pathlib.Path, r: dict[str, Any]) -> np.ndarray:
    """The other library's curves, (seeds, evaluations); a `UserError` where the file has none."""
    try:
        found = np.array([r["curves"][k] for k in sorted(r["curves"], key=int)], np.float64)
        whole = found.shape[1:] == (r["budget"] // r["eval_interval"],) and len(found) > 1
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        whole = False
    if not whole or not np.isfinite(found).all():
        raise UserError(f"{path}: damaged, or fewer than two seeds; train them, or move it away")
    return found


def _row(r: dict[str, Any], learner: str, curves: np.ndarray, told: str) -> str:
    cells = []
    for values, places in ((curves.sum(axis=1), 0), (last(curves), 1)):
        low, high = statistics.interval(values, statistics.weighted_iqm, seed=statistics.SEED)
        cells.append(f"{statistics.iqm(values):,.{places}f} [{low:,.{places}f}, {high:,.{places}f}]")
    return f"| {r['task']} | {r['budget']:,} | {learner} | {len(curves)} | {' | '.join(cells)} | {told} |"


if __name__ == "__main__":
    run(main)
