"""Answers of SLURM's client programs in any form: read, or refused in a sentence."""

from pathlib import Path

import pytest

from pipeline.cluster.executor import JobPhase
from pipeline.cluster.slurm import SlurmExecutor
from pipeline.cluster.slurm_validation import read_cluster, seconds
from pipeline.errors import NotReady
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep

SWEEP = (
    "name: s\nconfig: c.py\nobjective: {metric: acc/top1}\nvariants: {a: {}}\nladder: {start: a}\n"
)


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return an executor whose client programs print these bytes."""
    (tmp_path / "s.yaml").write_text(SWEEP)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()

    def say(**printed: bytes) -> SlurmExecutor:
        for name, text in printed.items():
            (tmp_path / f"{name}.txt").write_bytes(text)
            program = tmp_path / "bin" / name
            program.write_text(f"#!/bin/sh\ncat '{tmp_path}/{name}.txt'\n")
            program.chmod(0o755)
        return SlurmExecutor(read_sweep(tmp_path / "s.yaml", tmp_path), Project(tmp_path))

    return say


@pytest.mark.parametrize(
    ("printed", "job"),
    [
        (b"1234\n", "1234"),
        (b"1234;cluster\n", "1234"),
        (b"Welcome to the lab\nsbatch: lua: 7 jobs left\n1234\n", "1234"),
        (b"\xff\xfe note\r\n1234;c \r\n", "1234"),
    ],
)
def test_the_number_of_a_job_is_found_among_other_lines(answers, printed, job) -> None:
    assert answers(sbatch=printed).submit(["true"], {}) == job


@pytest.mark.parametrize("printed", [b"", b"Submitted batch job\n", b"[N/A]", b"\xff"])
def test_an_answer_without_a_number_says_how_to_find_the_job(answers, printed: bytes) -> None:
    with pytest.raises(NotReady, match="names no job. Is one there. See: squeue -n pcan-s-"):
        answers(sbatch=printed).submit(["true"], {})


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("RUNNING", JobPhase.RUNNING),
        ("COMPLETING", JobPhase.RUNNING),
        ("RESIZING", JobPhase.RUNNING),
        ("A_STATE_OF_2030", JobPhase.RUNNING),
        ("", JobPhase.RUNNING),
        ("RESV_DEL_HOLD", JobPhase.PENDING),
        ("NODE_FAIL", JobPhase.ENDED),
        ("OUT_OF_MEMORY", JobPhase.ENDED),
    ],
)
def test_a_state_that_is_not_known_counts_as_running(answers, state: str, phase) -> None:
    line = f"noise\n12|{state}|(null)|n1|a comment | with a bar\n".encode()
    (job,) = answers(squeue=line, scontrol=b"JobId=12 ExitCode=[N/A]").list_jobs()
    assert (job.phase, job.exit_code) == (phase, None)


@pytest.mark.parametrize(
    ("row", "gpus", "limit"),
    [
        ("p*|n1|gpu:a100:4(S:0-1)|64|1-00:00:00", 4, 86_400),
        ("p*|n1|gpu:a100:no_consume:4|64|n/a", 4, None),
        ("p*|n1|(null)|N/A|INVALID", 0, None),
        ("p*|n1|gpu:4,mps:400,shard:8|64+|UNLIMITED", 4, None),
        ("p*|n1||?|1:00:00:00:00", 0, None),
        ("p*|n1|gpu:²|²|x-1:00", 0, None),
    ],
)
def test_a_node_is_read_whatever_its_fields_say(row: str, gpus: int, limit: int | None) -> None:
    (node,) = read_cluster(lambda _: f"a line of the site's\n{row}\nhalf|a|row\n").nodes
    assert (node.gpus, node.limit_s) == (gpus, limit) and node.cpus >= 1


@pytest.mark.parametrize("text", ["1-", "-1", "::", "1:", "½", "1-1-1", "", "infinite", "9:9:9:9"])
def test_a_time_that_is_none_is_unknown(text: str) -> None:
    assert seconds(text) is None


def test_a_client_that_cannot_be_run_is_a_sentence(answers, tmp_path: Path, monkeypatch) -> None:
    engine = answers(squeue=b"")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin" / "squeue").write_bytes(b"\x7fELF not really")
    with pytest.raises(NotReady, match="squeue cannot be run: Exec format error"):
        engine.list_jobs()


def test_the_output_file_keeps_the_letters_of_the_folder(answers, tmp_path: Path) -> None:
    engine = answers()
    engine._project = Project(tmp_path / "it's 100%j [x]")
    reported = engine.describe(["true"])
    assert "it'\"'\"'s 100%%j [x]/runs/s/slurm/%j.log" in reported
    engine._project = Project(tmp_path / "a\\b")
    with pytest.raises(NotReady, match="has a backslash in its name"):
        engine.describe(["true"])


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        *((f"SBATCH_{name}", False) for name in ("JOB_NAME", "WAIT", "ARRAY_INX", "NO_REQUEUE")),
        *((f"SBATCH_{name}", False) for name in ("TIMELIMIT", "OUTPUT", "EXPORT", "GRES", "GPUS")),
        *((f"SBATCH_{name}", False) for name in ("SIGNAL", "PARTITION", "MEM_PER_CPU", "QOS")),
        *((f"SBATCH_{name}", True) for name in ("ACCOUNT", "RESERVATION", "CONSTRAINT")),
        *((f"SLURM_{name}", False) for name in ("JOB_ID", "CPU_BIND", "MEM_PER_NODE", "PROCID")),
        *((f"SLURM_{name}", True) for name in ("CONF", "JWT", "CLUSTERS")),
        *(("CUDA_VISIBLE_DEVICES", False), ("PMI_RANK", False), ("HTTPS_PROXY", True)),
    ],
)
def test_a_job_is_what_its_script_says_whatever_variables_surround_the_launch(
    answers, tmp_path: Path, monkeypatch, name: str, passed: bool
) -> None:
    engine = answers(sbatch=b"12\n")
    block = {
        "partition": "main",
        "time": "1:00:00",
        "extra": ("#SBATCH --mem=1G", " #SBATCH --qos=q"),
    }
    engine._sweep = engine._sweep.model_copy(
        update={"slurm": engine._sweep.slurm.model_copy(update=block)}
    )
    engine._gpus = 2
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/sh\nenv > '{tmp_path}/env'\necho 12\n")
    monkeypatch.setenv(name, "other")
    assert engine.submit(["true"], {}) == "12"
    assert (f"{name}=other\n" in (tmp_path / "env").read_text()) == passed


@pytest.mark.parametrize("name", ["SQUEUE_PARTITION", "SQUEUE_SORT", "SINFO_PARTITION"])
def test_no_variable_filters_what_the_clients_list(answers, monkeypatch, name: str) -> None:
    engine = answers(squeue=b"")
    program = f'#!/bin/sh\n[ -n "${name}" ] || echo "7|RUNNING|None|n1|abc"\n'
    Path(engine._project.root / "bin" / "squeue").write_text(program)
    monkeypatch.setenv(name, "other")
    assert [job.id for job in engine.list_jobs()] == ["7"]
