"""The `pcan` command: which commands there are, and how errors end.

Commands are loaded when they are called, so that `pcan --help` imports nothing but Click. A
`PcanError` is printed as it stands and decides the exit code; anything else is a bug and shows its
traceback.
"""

import contextlib
import errno
import gc
import os
import sys

import click

from pipeline.cli.common.groups import LazyGroup
from pipeline.cli.common.streams import complain, discard_output, prepare_streams
from pipeline.errors import NotReady, PcanError, StorageError, printable
from pipeline.shared.files import FormatError

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
#: What the file system may refuse at any time, and only its owner can fix. Other errors are bugs.
MACHINE_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ESTALE", "EMFILE"),
        *("ENAMETOOLONG", "ELOOP", "EEXIST", "ENOTDIR", "EISDIR"),
    )
)

#: Command -> (where it lives, its line in the list of commands).
_SWEEP = {
    "backup": ("pipeline.cli.sweep_files:backup", "Copy the study storage."),
    "best": ("pipeline.cli.sweep_best:best", "Export the winner."),
    "brief": ("pipeline.cli.sweep_report:brief", "Say how a sweep stands and what is next."),
    "classes": ("pipeline.cli.sweep_classes:command", "Show a trial class by class."),
    "clean": ("pipeline.cli.sweep_files:clean", "Delete checkpoints of losers."),
    "compare": ("pipeline.cli.sweep_compare:command", "Compare the trials in one HTML file."),
    "continue": ("pipeline.cli.sweep_record:continue_", "Overrule a verdict; this is recorded."),
    "import": ("pipeline.cli.sweep_record:import_runs", "Add earlier runs from their logs."),
    "launch": ("pipeline.cli.sweep_launch:launch", "Run a sweep, or go on with it."),
    "list": ("pipeline.cli.sweep_status:list_sweeps", "List the project's sweeps."),
    "plan": ("pipeline.cli.sweep_plan:command", "Show what a sweep will do; runs nothing."),
    "refine": ("pipeline.cli.sweep_refine:command", "Get more of the winner, without training."),
    "register": ("pipeline.cli.sweep_record:register", "Make the studies; runs nothing."),
    "report": ("pipeline.cli.sweep_report:report", "Write tables, figures, methods of a sweep."),
    "rerun": (
        "pipeline.cli.sweep_rerun:command",
        "Train one epoch again, compare it.",
    ),
    "search": ("pipeline.cli.sweep_launch:search", "Search beyond the plan, around a recipe."),
    "status": ("pipeline.cli.sweep_status:status", "Show every trial and its state."),
    "stop": ("pipeline.cli.sweep_stop:stop", "End running trials cleanly, resumable."),
    "story": ("pipeline.cli.sweep_report:story", "Tell what was tried, when, and its cost."),
    "sync": ("pipeline.cli.sweep_files:sync", "Send offline runs to W&B."),
    "watch": ("pipeline.cli.sweep_watch:command", "Follow the running trials live."),
}
_ROOT = {
    "checkpoint": (
        "pipeline.cli.checkpoint_inspect:command",
        "Show what a checkpoint holds, what fits.",
    ),
    "compare-predictions": (
        "pipeline.cli.compare_predictions:command",
        "Test if one file of predictions is better.",
    ),
    "data": ("pipeline.cli.data:command", "Make, check and prepare data."),
    "diagnose": ("pipeline.cli.diagnose:command", "Show what went wrong in a training log."),
    "doctor": ("pipeline.cli.project_commands:doctor", "Show what is wrong here and what to do."),
    "gates": ("pipeline.cli.gates_commands:command", "Check gates, or replay them on old logs."),
    "init": ("pipeline.cli.project_commands:init", "Make a folder a project."),
    "log": ("pipeline.cli.log:command", "Show lr and top-1 by epoch of the newest log."),
    "skill": ("pipeline.cli.skill_page:command", "Write instructions for coding agents."),
    "train": ("pipeline.cli.train:train", "Train one variant, without a study."),
}


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from pipeline.job.provenance import versions

    click.echo(", ".join(f"{name} {version}" for name, version in versions().items()))
    ctx.exit()


@click.group(cls=LazyGroup, lazy=_ROOT, context_settings=HELP)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the versions that matter and exit.",
)
def cli() -> None:
    """Carry out a written training plan: studies, gates, fallbacks, comparison, winner.

    \b
    A first sweep on made data, then the winner:
      pcan sweep launch demo
      pcan sweep status demo
      pcan sweep best demo
    """


@cli.group("sweep", cls=LazyGroup, lazy=_SWEEP)
def sweep_group() -> None:
    """Run a sweep, watch it, compare its trials, export the best."""


def _refuse_vanished_folder() -> None:
    """Raise NotReady in a shell whose folder was deleted or moved since."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise NotReady(
            "The folder that this shell is in no longer exists. Go to the project: cd FOLDER"
        ) from None


def main() -> None:
    """Run the command; this is what the console script calls."""
    # Records of 10,000 trials hold no cycles; searching for some takes a tenth of `status`.
    gc.set_threshold(100_000)
    prepare_streams()
    try:
        _refuse_vanished_folder()
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except PcanError as error:
        complain(printable(error))
        sys.exit(error.exit_code)
    except FormatError as error:
        complain(printable(error))
        sys.exit(StorageError.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # `pcan ... | head`: the reader has closed the pipe.
        discard_output()
        sys.exit(0)
    except OSError as error:
        if error.errno not in MACHINE_ERRNOS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        discard_output()
        complain(printable(f"{place}{error.strerror}. Fix that, then try again."))
        sys.exit(NotReady.exit_code)


if __name__ == "__main__":
    main()
