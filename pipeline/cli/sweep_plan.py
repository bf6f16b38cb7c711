"""`pcan sweep plan`: what a sweep will do, before it costs a GPU hour."""

import json

import click


@click.command("plan")
@click.argument("sweep", required=False)
@click.option("--clips", type=click.IntRange(1), help="Size of the validation set, for the lint.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(sweep: str | None, clips: int | None, as_json: bool) -> None:
    """Show the ladder, each variant's changes and true lr, the lint and the cost; run nothing.

    Example:

        pcan sweep plan pcan_ntu60
    """
    from pipeline.cli.resolved import resolved
    from pipeline.plan.lint.finding import subject
    from pipeline.plan.project import find_project
    from pipeline.plan.read import read_sweep
    from pipeline.report.plan_text import plan_text
    from pipeline.report.plan_view import plan_view, record

    project = find_project()
    plan = read_sweep(project.sweep_file(sweep), project.root)
    known = resolved(plan, project)
    changes = {name: config.changes for name, config in known.configs.items()}
    view = plan_view(subject(plan, known.base, known.true_lr, clips), changes, known.problems)
    click.echo(json.dumps(record(view), indent=1, default=repr) if as_json else plan_text(view))
