"""Nothing is lost: random members of a sweep are killed, and it ends as if nothing had been.

A launch of four variants runs until it is done; after a new epoch, or while a checkpoint is being
written, its supervisor, torchrun, a rank or a data worker gets SIGKILL.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.read import read_sweep
from pipeline.shared.measurement import Measurement

EPOCHS = 8
#: Of a seed that continuous integration runs: as many as there are kinds of processes.
FEW_KILLS, KILLS = 6, 12
TOP1 = {
    "baseline": [0.60, 0.65, 0.70, 0.72, 0.74, 0.76, 0.78, 0.80],
    "warmer": [0.55, 0.62, 0.71, 0.73, 0.79, 0.83, 0.82, 0.84],
    "colder": [0.61, 0.66, 0.69, 0.75, 0.77, 0.79, 0.86, 0.85],
    "pose": [0.58, 0.64, 0.68, 0.74, 0.78, 0.80, 0.81, 0.83],
}
SAMPLE = (1, 2)
SEEDS = [
    pytest.param(seed, marks=[pytest.mark.slow, *([pytest.mark.sample] if seed in SAMPLE else [])])
    for seed in range(1, 21)
]


class Chaos:
    """Kills a random member some time after each sign of progress.

    Args:
        project: the project whose launch is running.
        most: how many are killed.
    """

    def __init__(self, project, dice: random.Random, most: int) -> None:
        self.project, self.dice, self.most = project, dice, most
        self.kills: list[str] = []
        self._seen: object = None
        self._epochs = -1
        self._in_one_start = 0
        self._due: float | None = None

    def look(self, launcher: subprocess.Popen[str]) -> None:
        """Note progress, and kill when it is time to."""
        epochs = {name: self.project.epochs(f"{name}/0") for name in TOP1}
        for name, found in epochs.items():
            assert found == list(range(1, len(found) + 1)), f"{name} went back: {found}"
        total = sum(map(len, epochs.values()))
        if total > self._epochs:
            self._epochs, self._in_one_start = total, 0
        sign = total, bool(list(self.project.root.glob("runs/tiny/*/0/checkpoints/.epoch_*")))
        if sign != self._seen and self._due is None:
            self._due = time.monotonic() + self.dice.uniform(0, 4)
        self._seen = sign
        if self._due is not None and time.monotonic() > self._due:
            self._due = None
            if len(self.kills) < self.most and self._in_one_start < 2:
                self._kill(launcher)

    def _kill(self, launcher: subprocess.Popen[str]) -> None:
        members = self.members(launcher)
        if launcher.poll() is not None or len(members) < 3:
            return
        # Any of those killed least often so far, so that a seed meets every kind.
        least = min(self.kills.count(name) for name in members)
        name = self.dice.choice([n for n in sorted(members) if self.kills.count(n) == least])
        try:
            os.kill(members[name], signal.SIGKILL)
        except ProcessLookupError:
            return
        self._in_one_start += 1
        self.kills.append(name)

    def members(self, launcher: subprocess.Popen[str]) -> dict[str, int]:
        """Return who lives, by part played."""
        found = {"supervisor": launcher.pid}
        pids = set(self.project.job_pids())
        for pid in pids:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                stat = Path(f"/proc/{pid}/stat").read_text()
            except OSError:
                continue
            rank = next((e[5:].decode() for e in environ if e.startswith(b"RANK=")), None)
            if b"torch.distributed.run" in words:
                found["torchrun"] = pid
            elif int(stat.rpartition(")")[2].split()[1]) in pids and rank is not None:
                worker = f"worker {rank}"
                parent = int(stat.rpartition(")")[2].split()[1])
                is_rank = b"torch.distributed.run" in _words(parent)
                found[f"rank {rank}" if is_rank else worker] = pid
        return found


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def plan_four(project) -> None:
    common = (
        f"train_cfg.max_epochs: {EPOCHS}, train_dataloader.num_workers: 1, model.sleep: 0.1, "
        "model.width: 256"
    )
    text = ""
    for name, top1 in TOP1.items():
        like = "" if name == "baseline" else "like: baseline, "
        text += f"  {name}: {{{like}set: {{{common}, val_evaluator.top1: {top1}}}}}\n"
    project.sweep(text)


def run_until_done(project, chaos: Chaos, limit_s: float) -> int:
    """Launch again and again until the plan is done; return how many launches it took."""
    deadline, launches = time.monotonic() + limit_s, 0
    while True:
        launches += 1
        with open(project.root / f"launch{launches}.txt", "w") as out:
            launcher = subprocess.Popen(
                project.argv(*project.launch_words("--policy", "all")),
                cwd=project.root,
                env=project.env(),
                stdout=out,
                stderr=out,
            )
        while launcher.poll() is None:
            assert time.monotonic() < deadline, f"not done in {limit_s} s; {chaos.kills}"
            chaos.look(launcher)
            time.sleep(0.02)
        if launcher.returncode != -signal.SIGKILL:
            reported = (project.root / f"launch{launches}.txt").read_text()
            assert launcher.returncode == 0, f"{launcher.returncode}: {reported}\n{chaos.kills}"
            return launches


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_kills_change_nothing(project, until: Callable[..., None], seed: int) -> None:
    plan_four(project)
    chaos = Chaos(project, random.Random(seed), FEW_KILLS if seed in SAMPLE else KILLS)
    launches = run_until_done(project, chaos, limit_s=3300)
    print(f"seed {seed}: {launches} launches, killed: {', '.join(chaos.kills)}")
    assert len(chaos.kills) >= 4

    until(lambda: project.job_pids() == [], "no process is left")
    trials = project.status()
    assert sorted(trials) == sorted(f"{name}/0" for name in TOP1)
    sweep = read_sweep(project.root / "sweeps" / "tiny.yaml", project.root)
    with sqlite3.connect(project.root / "runs" / "pcan.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        count = "SELECT count(*), count(DISTINCT step) FROM trial_intermediate_values"
        assert database.execute(count).fetchone() == (4 * EPOCHS, EPOCHS)
    for name, top1 in TOP1.items():
        trial = trials[f"{name}/0"]
        assert (trial["state"], trial["epochs"]) == ("COMPLETE", EPOCHS), trial
        assert project.epochs(f"{name}/0") == list(range(1, EPOCHS + 1))
        assert trial["best_top1"] == max(top1)
        history = [Measurement(epoch=n, top1=value) for n, value in enumerate(top1, 1)]
        expected = judge_all(history, Rules.of(sweep.variants[name]))
        assert reported_verdicts(project, name) == [
            (v.epoch, v.kind.value, v.rule) for v in expected
        ]


def reported_verdicts(project, name: str) -> list[tuple[int, str, str | None]]:
    lines = (project.folder(f"{name}/0") / "verdicts.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(r["epoch"], r["verdict"], r["rule"]) for r in records]
