"""`python -m pipeline.track.attach RUNDIR KIND=FILE...`: send files as artifacts of a run.

A process of its own, as all of wandb; started by `sync.attach`, only when a user asked for it.
"""

import argparse
import sys
from pathlib import Path

from pipeline.track import run_payload, sync_state
from pipeline.track.run_payload import WandbTarget, read_trial


def main() -> int:
    """Open the trial's run again, add the files, end it as it was."""
    from pipeline.track.writer import RunWriter

    parser = argparse.ArgumentParser(prog="pipeline.track.attach")
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--project", default=None)
    parser.add_argument("--entity", default=None)
    asked = parser.parse_args()
    trial = read_trial(asked.folder)
    if trial is None:
        print(f"{asked.folder} is no run directory.", file=sys.stderr)
        return 2
    target = WandbTarget(project=asked.project, entity=asked.entity)
    filed = run_payload.identity(trial, sync_state.read_local(trial).id, target)
    writer = RunWriter(trial, filed, "online")
    for told in asked.files:
        kind, _, file = told.partition("=")
        writer.attach(Path(file), kind)
    writer.update_summary(trial)
    writer.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
