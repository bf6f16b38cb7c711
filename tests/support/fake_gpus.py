"""Stand-ins for a GPU machine: a driver's query tool, and an interpreter whose jobs use it.

`PCAN_NVIDIA_SMI` names this file's copy for the query; as `job.python` the other copy notes which
GPUs its job was given, shows up on them while it lives, and trains on the CPU.
"""

import json
import os
from pathlib import Path

GPUS = 4


def query(folder, question):
    """Answer as nvidia-smi does; what is in `doing.json` replaces a GPU's idle values."""
    users = [json.loads(file.read_text()) for file in sorted(folder.glob("user-*.json"))]
    users = [user for user in users if os.path.exists(f"/proc/{user['pid']}")]
    if "query-gpu" in question:
        for index in range(GPUS):
            used = 3 + sum(u["mib"] for u in users if f"GPU-{index}" in u["gpus"])
            print(", ".join(_cells(folder, index, used, question.partition("=")[2].split(","))))
        return
    for user in users:
        for gpu in user["gpus"]:
            cells = {"gpu_uuid": gpu, "process_name": user["name"], "used_memory": user["mib"]}
            names = question.partition("=")[2].split(",")
            print(", ".join(str({**user, **cells}[name]) for name in names))


def _cells(folder, index, used, fields):
    """Return one GPU's row; a field that this driver does not know ends the program."""
    values = {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "Stand-in",
        "memory.total": 81920,
        "memory.used": used,
        "utilization.gpu": 0,
        "power.draw": 70.5,
        "temperature.gpu": 34,
        "clocks_throttle_reasons.active": "0x0000000000000001",
    }
    doing = folder / "doing.json"
    if doing.exists():
        values.update(json.loads(doing.read_text()).get(str(index), {}))
    for field in fields:
        if values.get(field) is None:
            print(f'Field "{field}" is not a valid field to query.\n')
            raise SystemExit(2)
    return [str(values[field]) for field in fields]


def use(folder, pid, gpus, name="python", mib=2048):
    """Let a process hold memory of GPUs while it lives."""
    record = {"pid": pid, "gpus": list(gpus), "name": name, "mib": mib}
    (folder / f"user-{pid}.json").write_text(json.dumps(record))


def run(folder, python, words):
    """Run what the real interpreter would; a job on the CPU, but seen on its GPUs."""
    if "torch.distributed.run" in words:
        rundir = Path(words[-1])
        gpus = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        with open(folder / "jobs", "a") as stream:
            stream.write(f"{rundir.parent.name}/{rundir.name} {','.join(gpus)}\n")
        use(folder, os.getpid(), gpus)
        spec = json.loads((rundir / "spec.json").read_text())
        (rundir / "spec.json").write_text(json.dumps({**spec, "device": "cpu"}))
    os.execv(python, [python, *words])


def write(folder, python):
    """Write the two programs; return their paths."""
    made = []
    for name, call in (
        ("nvidia-smi", "fake_gpus.query(FOLDER, sys.argv[1])"),
        ("python", f"fake_gpus.run(FOLDER, {python!r}, sys.argv[1:])"),
    ):
        file = folder / name
        file.write_text(
            f"#!{python}\nimport sys\nfrom pathlib import Path\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport fake_gpus\n"
            f"FOLDER = Path({str(folder)!r})\n{call}\n"
        )
        file.chmod(0o755)
        made.append(file)
    return made
