"""What a GPU gives, measured by one command on the day that one is there: under seven minutes.

    python benchmarks/gpu.py                          one GPU, all sections
    python benchmarks/gpu.py --only step,launch       some of them
    python benchmarks/gpu.py --device cpu --small     on the CPU with small numbers: does it run?

Needs one CUDA GPU and nothing else: clips are drawn, no network is used. Sections:

    step      a training step of the plan's PCAN: fp32, tf32, bf16, channels last, compiled,
              against the stock head and the stock config; peak memory of each
    heatmaps  maps drawn on the device against those made in a loader
    loaders   real loader processes, packs against the stock chain: how long the GPU waits
    nccl      a process group of one rank: what it costs, and that it gives the same weights
    launch    `pcan sweep launch` of the demo: its gate, a SIGKILL, and the resume
    oom       a job that asks for more memory than there is: the cause that is named
    hang      a collective that one rank never joins: ended by the watchdog

Each runs in a process of its own with a time limit; one that fails is recorded with its reason,
keeps the figures that it had, and stops no other. Prints a table in Markdown; `--out` gets all
figures as JSON. Exit code 3 if a section failed, 5 without the GPU that was asked for.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Section -> the program that carries it out, and the most seconds it may take on a GPU.
SECTIONS = {
    "step": ("gpu_steps.py", 100),
    "heatmaps": ("gpu_data.py", 25),
    "loaders": ("gpu_data.py", 80),
    "nccl": ("gpu_steps.py", 25),
    "launch": ("gpu_jobs.py", 125),
    "oom": ("gpu_jobs.py", 25),
    "hang": ("gpu_jobs.py", 40),
}
#: On a CPU two cores have to do, and other work may share them.
CPU_LIMIT_S = 600
LAST_LINES = 3


def main() -> int:
    options = arguments()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pcan-gpu-") as folder:
        machine = section("machine", "gpu_steps.py", 60, options, Path(folder))
        if machine["state"] != "done":
            print(machine["reason"], file=sys.stderr)
            return 5
        record: dict[str, Any] = {
            "schema": 1,
            "machine": {row["what"]: row["value"] for row in machine["rows"]},
            "small": options.small,
            "sections": [],
        }
        for name in options.only:
            program, limit = SECTIONS[name]
            limit = limit if options.device == "cuda" else CPU_LIMIT_S
            left = 60 * options.minutes - (time.monotonic() - begun)
            print(f"{name} ...", file=sys.stderr, flush=True)
            record["sections"].append(
                section(name, program, min(limit, options.limit, left), options, Path(folder))
            )
            record["seconds"] = round(time.monotonic() - begun, 1)
            if options.out:  # after each section: the machine may go away
                options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(record))
    return 3 if any(one["state"] != "done" for one in record["sections"]) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small numbers: does it run?")
    parser.add_argument("--only", type=names, default=list(SECTIONS), metavar="SECTION,...")
    parser.add_argument("--minutes", type=float, default=7.0, help="for all sections (7)")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds a section at most")
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    options = parser.parse_args()
    if options.device == "cpu":
        if not options.small:
            parser.error("on the CPU the full sizes take hours: add --small")
        options.minutes = max(options.minutes, 60.0)
    if options.out and not options.out.absolute().parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.absolute().parent}")
    return options


def names(text: str) -> list[str]:
    """Return the sections that a list names, in the order of the whole."""
    given = text.split(",")
    unknown = [name for name in given if name not in SECTIONS]
    if unknown:
        known = ", ".join(SECTIONS)
        raise argparse.ArgumentTypeError(f'there is no section "{unknown[0]}"; there are {known}')
    return [name for name in SECTIONS if name in given]


def section(
    name: str, program: str, limit_s: float, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Run one section as a process; return its rows, and why it failed if it did."""
    record: dict[str, Any] = {"name": name, "state": "failed", "seconds": 0.0, "rows": []}
    if limit_s < 1:
        return {**record, "reason": f"not begun: the {options.minutes:g} minutes were over"}
    work = folder / name
    work.mkdir()
    words = [sys.executable, str(ROOT / "benchmarks" / program), name, options.device, str(work)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    begun = time.monotonic()
    with open(work / "output", "wb") as output:
        process = subprocess.Popen(
            words + (["small"] if options.small else []),
            env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
            cwd=work,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # also what it left behind, and on Ctrl-C
            end_group(process)
    record["seconds"] = round(time.monotonic() - begun, 1)
    record["rows"] = rows_of(work / "rows.jsonl")
    if code == 0:
        return {**record, "state": "done", "reason": None}
    if code is None:
        return {**record, "reason": f"not done within {limit_s:.0f} s"}
    lines = (work / "output").read_text(errors="replace").strip().splitlines()
    return {**record, "reason": " / ".join(lines[-LAST_LINES:]) or f"exit code {code}"}


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group; the jobs of a launch end with their parent."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Return what a section has written so far."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def table(record: Mapping[str, Any]) -> str:
    """Return all figures as a table in Markdown, under a line about the machine."""
    about = ", ".join(f"{key} {value}" for key, value in record["machine"].items())
    size = "small numbers" if record["small"] else "full sizes"
    lines = [f"{about}; {size}, {record['seconds']:.0f} s in all.", ""]
    lines += ["| section | what | measured | ratio |", "| --- | --- | ---: | --- |"]
    for one in record["sections"]:
        lines += [row_line(one["name"], row) for row in one["rows"]]
        if one["state"] != "done":
            reason = " ".join(one["reason"].replace("|", "/").split())
            lines.append(f"| {one['name']} | **failed** | {one['seconds']:g} s | {reason} |")
    return "\n".join(lines)


def row_line(section: str, row: Mapping[str, Any]) -> str:
    """Return one figure as a line of the table."""
    value, ratio = row["value"], row.get("ratio")
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    cells: Sequence[str] = (
        section,
        row["what"],
        f"{shown} {row.get('unit', '')}".strip(),
        "" if ratio is None else f"{ratio:.3g} x {row['of']}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
