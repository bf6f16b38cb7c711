"""What a cluster could never run is refused before anything is submitted."""

from pathlib import Path

import pytest

from pipeline.cluster.slurm import SlurmExecutor, signal_lead_s
from pipeline.cluster.slurm_validation import read_cluster, seconds, validate
from pipeline.errors import NotReady, PcanError, StorageError, SweepFileError
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.study.db.storage import Storage

SINFO = """\
main*|n1|gpu:a100:4(S:0-1)|64|7-00:00:00
main*|n2|gpu:a100:4(S:0-1)|64|7-00:00:00
cpu|c1|(null)|32+|infinite
short|n1|gpu:a100:2,gpu:v100:2|64|1:00:00
"""
SERVER = "postgresql+psycopg://me@db.example/pcan"


@pytest.fixture
def cluster():
    return read_cluster(lambda words: SINFO)


def sweep_of(folder: Path, slurm: str = "{}", gpus: int = 2) -> Sweep:
    file = folder / "s.yaml"
    file.write_text(
        "name: s\nconfig: c.py\nobjective: {metric: acc/top1}\n"
        f"job: {{gpus: {gpus}, epoch_minutes: 15}}\nvariants: {{a: {{}}}}\n"
        f"ladder: {{start: a}}\nslurm: {slurm}\n"
    )
    return read_sweep(file, folder)


def refuse(folder: Path, cluster, sweep: Sweep, url: str = SERVER, gpus: int | None = None):
    asked = sweep.job.gpus if gpus is None else gpus
    project = Project(folder)
    validate(sweep, project, cluster, asked, Storage(url), signal_lead_s(sweep))


@pytest.mark.parametrize(
    ("slurm", "gpus", "error", "reported"),
    [
        ("{partition: gpux}", 2, SweepFileError, 's.yaml:7: slurm.partition is "gpux"; this clus'),
        ("{partition: cpu}", 2, NotReady, "no node of partition cpu has any"),
        ("{}", 8, NotReady, "A job needs 8 GPUs (job.gpus), and no node of partition main has m"),
        ("{nodes: [n9]}", 2, SweepFileError, "slurm.nodes n9 are not in that partition"),
        ("{partition: short, time: '02:00:00'}", 2, SweepFileError, "longer than partition short"),
        ("{time: '00:20:00'}", 2, SweepFileError, "leaves no time for an epoch"),
        ("{}", 2, NotReady, "is on a local file system, and jobs on n1, n2 have to see it"),
    ],
)
def test_what_never_would_run_is_refused(
    tmp_path: Path, cluster, slurm: str, gpus: int, error: type[PcanError], reported: str
) -> None:
    with pytest.raises(error) as caught:
        refuse(tmp_path, cluster, sweep_of(tmp_path, slurm, gpus))
    assert reported in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reported"),
    [
        ("sqlite:////data/pcan.db", "is a file that n1, n2 cannot use together"),
        ("postgresql+psycopg://me:geheim@localhost/pcan", "on this machine's own address"),
        ("postgresql+psycopg:///pcan", "on this machine's own address"),
    ],
)
def test_a_storage_that_jobs_cannot_reach_is_refused(
    tmp_path: Path, cluster, url: str, reported: str
) -> None:
    with pytest.raises(StorageError) as caught:
        refuse(tmp_path, cluster, sweep_of(tmp_path, "{shared: true}"), url)
    assert reported in str(caught.value) and "geheim" not in str(caught.value)


def test_a_project_that_is_said_to_be_shared_is_accepted(tmp_path: Path, cluster) -> None:
    refuse(tmp_path, cluster, sweep_of(tmp_path, "{shared: true, time: '2-00'}"))
    refuse(tmp_path, cluster, sweep_of(tmp_path, "{shared: true, partition: cpu}"), gpus=0)


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("{time: 60}", "slurm.time is 60; it must be text"),
        ("{time: soon}", '"soon" is not a time limit of SLURM'),
        ("{partition: 'a b'}", "slurm.partition"),
        ("{extra: ['#SBATCH --array=1-4']}", "--array is set by pcan"),
        ("{extra: ['#SBATCH -N 2']}", "-N is set by pcan"),
        ("{patition: main}", "did you mean 'partition'"),
        ("{signal_s: 1}", "slurm.signal_s is 1"),
    ],
)
def test_a_mistake_in_the_block_is_reported_with_its_line(
    tmp_path: Path, line: str, reported: str
) -> None:
    with pytest.raises(SweepFileError) as caught:
        sweep_of(tmp_path, line)
    assert str(caught.value).startswith("s.yaml:7: ") and reported in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 1800),
        ("30:15", 1815),
        ("12:00:00", 43200),
        ("2-00", 172800),
        ("1-02:30", 95400),
        ("infinite", None),
        ("n/a", None),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


def test_a_job_asks_for_its_share_and_the_sites_own_lines_come_last(
    tmp_path: Path, cluster
) -> None:
    block = (
        "{account: lab, time: '12:00:00', nodes: [n1], "
        "extra: ['#SBATCH --mem=64G', module load cuda]}"
    )
    sweep = sweep_of(tmp_path, block)
    engine = SlurmExecutor(sweep, Project(tmp_path))
    engine._cluster = cluster
    lines = engine.describe(["python", "-m", "x", "a b"]).splitlines()
    for line in ("--gres=gpu:2", "--ntasks=1", "--cpus-per-task=32", "--time=12:00:00"):
        assert f"#SBATCH {line}" in lines
    assert "#SBATCH --account=lab" in lines and "#SBATCH --exclude=n2,c1" in lines
    assert "#SBATCH --signal=B:USR1@1140" in lines  # 1.2 epochs of 15 min and a minute
    assert lines[-3:] == ["#SBATCH --mem=64G", "module load cuda", "exec python -m x 'a b'"]
    other = sweep.model_copy(update={"name": "t"})
    assert SlurmExecutor(other, Project(tmp_path)).job_name != engine.job_name


def test_without_sbatch_it_is_said_where_to_go(project, monkeypatch) -> None:
    project.sweep("  baseline: {set: {train_cfg.max_epochs: 1}}\n")
    monkeypatch.setenv("PATH", "/nowhere")
    done = project.run("sweep", "launch", "tiny", "--on", "slurm")
    assert done.returncode == 5 and "sbatch is not on this machine" in done.stderr
    refused = project.run("sweep", "launch", "tiny", "--on", "slurm", "--gpus", "0,1")
    assert refused.returncode == 2 and "--gpus is for a launch on this machine" in refused.stderr
    assert not (project.root / "runs" / "tiny").exists()
