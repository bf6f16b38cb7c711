"""`pcan sweep plan`: what a sweep will do, before it costs a GPU hour."""

import click

from pipeline.cli.options import (
    json_option,
    open_sweep,
    print_json,
    say_to_stderr,
    sweep_argument,
)


@click.command("plan")
@sweep_argument
@click.option("--clips", type=click.IntRange(1), help="Size of the validation set, for the lint.")
@json_option
def command(sweep: str | None, clips: int | None, as_json: bool) -> None:
    """Show the ladder, each variant's changes and true lr, the lint and the cost; run nothing.

    Example:

        pcan sweep plan pcan_ntu60
    """
    from pipeline.cli.resolved import resolved
    from pipeline.diagnose.trial import known_clips
    from pipeline.plan.against import mended
    from pipeline.plan.lint.finding import subject
    from pipeline.report.plan_text import plan_text
    from pipeline.report.plan_view import plan_view, record

    opened = open_sweep(sweep)
    plan, project = opened.sweep, opened.project
    known = resolved(plan, project)
    changes = {name: config.changes for name, config in known.configs.items()}
    for line in mended(plan, {name: config.facts for name, config in known.configs.items()}):
        say_to_stderr(line)
    clips = clips or known_clips(project.runs, plan.name)
    view = plan_view(subject(plan, known.base, known.true_lr, clips), changes, known.problems)
    if as_json:
        print_json(record(view))
    else:
        click.echo(plan_text(view))
