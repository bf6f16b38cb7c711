"""What a rehearsal found is kept, for all variants at once, and not beyond what it is true for."""

import errno

import pytest

from pipeline.errors import InputError, NotReady
from pipeline.job import resolve
from pipeline.job.answers import AnswerCache
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep

VARIANTS = "  baseline: {set: {train_cfg.max_epochs: 1}}\n  longer: {like: baseline}\n"


@pytest.fixture(scope="module")
def rehearsed(module_project):
    """A sweep with one of its two variants rehearsed."""
    module_project.sweep(
        VARIANTS.replace("longer: {", "longer: {set: {train_cfg.max_epochs: 3}, ")
    )
    project = Project(module_project.root)
    sweep = read_sweep(project.root / "sweeps" / "tiny.yaml", project.root)
    configs = resolve.resolve_variants(sweep, project).configs
    placed = {name: (config.text, []) for name, config in configs.items()}

    def rehearse(*wanted: str):
        return resolve.rehearse_configs(sweep, project, configs, placed, wanted=wanted)

    assert set(rehearse("baseline")[0]) == {"baseline"}
    return project, sweep, rehearse


def refuse(*_):
    raise NotReady("a child was asked")


def test_one_child_answers_for_all_variants(rehearsed, monkeypatch) -> None:
    project, sweep, rehearse = rehearsed
    monkeypatch.setattr(resolve, "run_tool", refuse)
    probes, rehearsals = rehearse("longer")
    assert probes["longer"].lr is not None and "acc/rgb_top1" in rehearsals["longer"].metrics
    assert resolve.resolve_variants(sweep, project).configs, "nor for configs that are resolved"


@pytest.mark.parametrize(
    ("name", "asked"), [("MY_DATA", True), ("PYTHONPATH", True), ("SLURM_JOB_ID", False)]
)
def test_another_environment_is_asked_again(rehearsed, monkeypatch, name, asked) -> None:
    _, _, rehearse = rehearsed
    monkeypatch.setattr(resolve, "run_tool", refuse)
    monkeypatch.setenv(name, "/somewhere/else")
    if asked:
        with pytest.raises(NotReady, match="a child was asked"):
            rehearse("baseline")
    else:
        assert rehearse("baseline")


def test_an_answer_of_other_sources_is_not_found(rehearsed) -> None:
    project, sweep, _ = rehearsed
    file = project.root / "of_the_user.py"
    cache = AnswerCache(sweep, project)
    sources = {"files": {str(file): None}, "searched": {}, "listed": {}}
    cache.keep("probe", "a question", {"answer": 1}, sources)
    assert AnswerCache(sweep, project).find("probe", "a question") == {"answer": 1}
    assert AnswerCache(sweep, project).find("probe", "another") is None
    file.write_text("")
    assert AnswerCache(sweep, project).find("probe", "a question") is None


def test_code_that_was_broken_since_is_refused(rehearsed) -> None:
    project, _, rehearse = rehearsed
    parts = project.root / "jobs" / "tiny_parts.py"
    sound = parts.read_text()
    parts.write_text(f"raise RuntimeError('broken since')\n{sound}")
    probes, _ = rehearse("baseline")
    assert "broken since" in probes["baseline"].problems[0]
    parts.write_text(sound)


def test_a_variant_that_ends_the_child_does_not_keep_another_from_being_run(
    rehearsed, monkeypatch
) -> None:
    project, _, rehearse = rehearsed
    parts = project.root / "jobs" / "tiny_parts.py"
    asked = []

    def run_tool(tool, request, job, root, gpu=""):
        asked.append(list(request["configs"]))
        if "longer" in request["configs"]:
            raise NotReady("the child was killed")
        raise InputError("enough")

    monkeypatch.setattr(resolve, "run_tool", run_tool)
    parts.write_text(parts.read_text() + "\n")
    with pytest.raises(InputError, match="enough"):
        rehearse("baseline")
    assert asked == [["baseline", "longer"], ["baseline"]]


def test_an_answer_that_cannot_be_kept_ends_nothing(rehearsed, tmp_path, monkeypatch) -> None:
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.job.answers.write_json", full)
    cache = AnswerCache(rehearsed[1], Project(tmp_path))
    cache.keep("tool", "question", "answer", {})
    assert cache.find("tool", "question") is None
