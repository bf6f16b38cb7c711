"""`pcan train` under `wandb agent`: W&B's controller chooses the variant, pcan does the rest.

The agent starts one process a run with these variables; the run it made online is the one to
write to, and its parameters arrive as `--variant=...` through `command` in wandb.yaml.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AgentRun:
    """The W&B run that an agent has opened for this process."""

    sweep_id: str
    run_id: str
    project: str | None
    entity: str | None

    def spec(self, group: str) -> dict[str, str | None]:
        """Return the `wandb` part of spec.json; `start_mirror(..., "live")` does the rest."""
        return {
            "id": self.run_id,
            "project": self.project,
            "entity": self.entity,
            "group": group,
            "sweep": self.sweep_id,
        }


def agent_run(environment: Mapping[str, str] = os.environ) -> AgentRun | None:
    """Return the agent's run, or None when no agent started this process."""
    sweep_id, run_id = environment.get("WANDB_SWEEP_ID"), environment.get("WANDB_RUN_ID")
    if not sweep_id or not run_id:
        return None
    return AgentRun(
        sweep_id=sweep_id.rsplit("/", 1)[-1],
        run_id=run_id,
        project=environment.get("WANDB_PROJECT"),
        entity=environment.get("WANDB_ENTITY"),
    )
