"""The sections of `benchmarks/gpu.py` that run whole launches: the demo, and two faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from gpu_rows import Section, carry_out

ROOT = Path(__file__).resolve().parents[1]
PCAN = [sys.executable, "-m", "pipeline.cli.main"]
#: Where the demo's first trial is killed: after this epoch of six.
KILLED_AFTER = 2
STALL_S = 8
#: A launch that ends without a winner says so with 3.
ENDS = (0, 3)
FAULTS = """\
name: faults
config: jobs/tiny.py
objective: {metric: acc/RGBPose_1:1_top1, branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}}
job: {gpus: 1, code_root: jobs, stop_grace_s: 5, retry: {stall: 0}}
variants:
  baseline:
    set:
      custom_imports.imports: [tiny_parts, gpu_faults]
      model.type: DeviceFaultsModel
      model.fault: {kind: KIND, epoch: 1, step: 5}
ladder: {start: baseline}
"""


class Launches:
    """Launches of one sweep in a project of their own.

    Args:
        words: of `pcan sweep launch`, after the sweep's name.
        env: added to the environment.
    """

    def __init__(self, section: Section, sweep: str, **env: str) -> None:
        self.root, self.sweep, self.device = section.folder / "project", sweep, section.device
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **env}
        (self.root / "sweeps").mkdir(parents=True)
        shutil.copy(ROOT / "wandb.yaml", self.root)

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command to its end; return what it prints."""
        done = subprocess.run(
            [*PCAN, *words], cwd=self.root, env=self.env, capture_output=True, text=True
        )
        if done.returncode not in codes:
            sys.exit(f"pcan {' '.join(words)}: exit code {done.returncode}: {done.stderr[-800:]}")
        return done.stdout

    def launch(self, *, codes: tuple[int, ...]) -> str:
        return self.run(*self._launch_words(), codes=codes)

    def start(self) -> subprocess.Popen[bytes]:
        """Start a launch; what it says goes to `launch.out`."""
        with open(self.root / "launch.out", "wb") as output:
            return subprocess.Popen(
                [*PCAN, *self._launch_words()],
                cwd=self.root,
                env=self.env,
                stdout=output,
                stderr=output,
            )

    def _launch_words(self) -> list[str]:
        return ["sweep", "launch", self.sweep, "--device", self.device, "--wandb", "disabled"]

    def trial(self, name: str) -> dict[str, Any]:
        """Return a trial as `status --json` shows it."""
        variant, number = name.split("/")
        record = json.loads(self.run("sweep", "status", self.sweep, "--json"))
        (study,) = [one for one in record["studies"] if one["variant"] == variant]
        return next(one for one in study["trials"] if one["number"] == int(number))

    def lines(self, trial: str, file: str) -> list[dict[str, Any]]:
        """Return the records of a file in a trial's run directory."""
        path = self.root / "runs" / self.sweep / trial / file
        return (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )

    def job_processes(self) -> list[int]:
        """Return the processes of any trial of this project that are alive."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "pipeline.train" in command and str(self.root) in command:
                found.append(int(entry.name))
        return found


def launch(section: Section) -> None:
    """Launch the demo, kill the launch, launch it again to the end."""
    project = demo(section)
    begun = time.monotonic()
    process = project.start()
    progress = project.root / "runs/demo/start/0/progress.json"
    until(lambda: progress.exists(), process)
    section.row("launch to first step, caches empty", time.monotonic() - begun, "s")
    until(lambda: len(project.lines("start/0", "measurements.jsonl")) >= KILLED_AFTER, process)
    section.row("processes of the running job", len(project.job_processes()))
    killed = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not project.job_processes())
    section.row("none of them left after a SIGKILL of the launch", time.monotonic() - killed, "s")
    project.launch(codes=ENDS)
    section.row("demo, the kill included", time.monotonic() - begun, "s")
    say_resumed(section, project)
    say_stopped(section, project)
    say_hardware(section, project)


def demo(section: Section) -> Launches:
    """Return a project with the demo for one process, its data drawn: half of it, for the time."""
    project = Launches(section, "demo")
    plan = yaml.safe_load((ROOT / "sweeps/demo.yaml").read_text(encoding="utf-8"))
    plan["job"]["gpus"] = 1
    config = (ROOT / "configs/pcan_demo.py").read_text(encoding="utf-8")
    if section.small:
        shorten(plan)
    else:  # as many samples a step as the plan's two processes take
        config = config.replace("batch_size=6", "batch_size=12")
    (project.root / "configs").mkdir()
    (project.root / "configs/pcan_demo.py").write_text(config, encoding="utf-8")
    (project.root / "sweeps/demo.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    project.run("data", "demo", "data/demo", "--clips", "4" if section.small else "30")
    return project


def shorten(plan: dict[str, Any]) -> None:
    """Leave of the demo what shows a gate and a resume: three variants of few epochs."""
    plan.update(gates=[{"epoch": 1, "floor": 0.3}], bands=[], patience=None)
    variants = plan["variants"]
    del variants["pose-1.5"]
    variants["lr-0.02"]["gates"] = []
    plan["ladder"]["after"] = [{"epoch": 1, "below": 0.3, "next": ["lr-0.02"]}]
    for name, epochs in (("start", 4), ("baseline", 2)):
        values = variants[name]["set"]
        values["train_cfg.max_epochs"] = epochs
        values["param_scheduler"][0].update(T_max=epochs, end=epochs)


def say_resumed(section: Section, project: Launches) -> None:
    """Write down how the killed trial went on; fail if it did not."""
    epochs = [one["epoch"] for one in project.lines("start/0", "measurements.jsonl")]
    trial = project.trial("start/0")
    section.row("start/0, which was killed: attempts", trial["attempts"])
    section.row("start/0: epochs measured", " ".join(map(str, epochs)))
    if trial["attempts"] != 2 or trial["state"] != "COMPLETE" or len(set(epochs)) != len(epochs):
        sys.exit(f"start/0 was not resumed: {json.dumps(trial)}")


def say_stopped(section: Section, project: Launches) -> None:
    """Write down what the gate did and what came of its fallback."""
    baseline, fallback = project.trial("baseline/0"), project.trial("lr-0.02/0")
    if baseline["cause"] != "gate":
        sys.exit(f"the gate did not stop baseline/0: {json.dumps(baseline)}")
    section.row("baseline/0, stopped by its gate at epoch", baseline["epochs"])
    section.row(
        "lr-0.02/0, the fallback", f"{fallback['state']}, best {fallback['best_top1']:.3f}"
    )


def say_hardware(section: Section, project: Launches) -> None:
    """Write down what the launch's own sampling saw, of the epoch in the middle."""
    measured = project.lines("lr-0.02/0", "measurements.jsonl")
    times = measured[len(measured) // 2].get("times") or {}
    for part, seconds in times.items():
        section.row(f"an epoch of the demo: {part}", seconds, "s")
    sampled = project.lines("lr-0.02/0", "gpus.jsonl")
    if section.device == "cuda":
        if not sampled:
            sys.exit("no line of gpus.jsonl: the sampling of nvidia-smi gave nothing")
        for gpu in sampled[len(sampled) // 2]["gpus"]:
            for key in ("samples", "use", "peak_mib", "wh", "celsius"):
                section.row(f"gpus.jsonl: {key}", gpu.get(key))


def oom(section: Section) -> None:
    """Run a job that asks for a pebibyte."""
    trial = faulty(section, "allocate")
    section.row("cause", trial["cause"])
    section.row("reason", str(trial["reason"]))
    expected = "oom_cuda" if section.device == "cuda" else "oom_host"
    if trial["cause"] != expected:
        sys.exit(f"it should be {expected}, and is {trial['cause']}: {trial['reason']}")


def hang(section: Section) -> None:
    """Run a job that waits in a collective for ever."""
    begun = time.monotonic()
    trial = faulty(section, "alone", PCAN_STALL_S=str(STALL_S))
    section.row("launch, hang and end by the watchdog", time.monotonic() - begun, "s")
    section.row("cause", trial["cause"])
    section.row("reason", str(trial["reason"]))
    if trial["cause"] != "stall":
        sys.exit(f"it should be stall, and is {trial['cause']}: {trial['reason']}")


def faulty(section: Section, kind: str, **env: str) -> dict[str, Any]:
    """Launch a job with a fault; return its trial, once no process of it is left."""
    project = Launches(section, "faults", **env)
    (project.root / "sweeps/faults.yaml").write_text(FAULTS.replace("KIND", kind))
    shutil.copytree(ROOT / "tests/jobs", project.root / "jobs")
    shutil.copy(ROOT / "benchmarks/gpu_faults.py", project.root / "jobs")
    project.launch(codes=(3,))
    until(lambda: not project.job_processes())
    return project.trial("baseline/0")


def until(condition: Any, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Wait for something; the section's own limit ends a wait that is too long."""
    while not condition():
        if process is not None and process.poll() is not None:
            said = Path("project/launch.out").read_text(errors="replace")[-800:]
            sys.exit(f"the launch ended early with exit code {process.returncode}: {said}")
        time.sleep(0.05)


if __name__ == "__main__":
    carry_out({"launch": launch, "oom": oom, "hang": hang})
