"""The stacks of a stalled job show which rank the others wait for."""

import pytest

from pipeline.launch.standing_ranks import log_sizes, standing_ranks
from pipeline.shared.rundir import RunDir

HEAD = 'Thread 0x01 (most recent call first):\n  File "/x/threading.py", line 1 in wait\n\n'
WAITING = '  File "/s/torch/autograd/graph.py", line 825 in _engine_run_backward\n'
AWAY = '  File "/my/code/data.py", line 7 in fetch\n  File "/s/torch/utils/x.py", line 1 in y\n'


def dump(frames: str) -> str:
    return f"{HEAD}Current thread 0x02 [python] (most recent call first):\n{frames}"


@pytest.mark.parametrize(
    ("logs", "told"),
    [
        ([dump(WAITING), dump(AWAY)], ": rank 1 stands in fetch, data.py:7 (rank1.log); the"),
        ([dump(AWAY), dump(WAITING), dump(WAITING)], ": rank 0 stands in fetch"),
        ([dump(WAITING), ""], ": rank 1 does not answer (rank1.log); the others wait for it"),
        ([dump(AWAY)], ": rank 0 stands in fetch, data.py:7 (rank0.log)"),
        ([dump(WAITING), dump(WAITING)], ""),
        ([dump(AWAY), dump(AWAY)], ""),
    ],
)
def test_the_rank_that_stands_is_named(tmp_path, logs, told) -> None:
    rundir = RunDir(tmp_path)
    for rank in range(len(logs)):
        rundir.rank_log(rank).write_text("earlier\n" + dump(AWAY))
    before = log_sizes(rundir, len(logs))
    for rank, text in enumerate(logs):
        with open(rundir.rank_log(rank), "a") as stream:
            stream.write(text)
    found = standing_ranks(rundir, before)
    assert found.startswith(told) and (told or not found)
