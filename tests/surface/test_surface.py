"""Commands, exit codes, sweep-file keys, environment variables and import paths are frozen."""

import gc
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
import frozen  # noqa: E402
from command_tree import commands, root_command  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
#: A sweep file that uses every key there is.
EVERY_KEY = Path(__file__).parent / "golden" / "every_key.yaml"


def described(param: click.Parameter) -> dict[str, Any]:
    """Return what a user relies on in an option or argument; what says nothing is left out."""
    kind = param.type
    default = None if param.default is None or callable(param.default) else param.default
    reported = {
        "type": kind.name,
        "choices": list(getattr(kind, "choices", ())),
        "min": getattr(kind, "min", None),
        "max": getattr(kind, "max", None),
        "above min": getattr(kind, "min_open", False),
        "below max": getattr(kind, "max_open", False),
        "metavar": param.metavar,
        "default": default if isinstance(default, bool | int | float | str) else None,
        "multiple": param.multiple if isinstance(param, click.Option) else False,
        "flag": param.is_flag if isinstance(param, click.Option) else False,
        "hidden": param.hidden if isinstance(param, click.Option) else False,
        "nargs": param.nargs if param.nargs != 1 else None,
        "required": param.required,
        "variable": param.envvar,
    }
    return {k: v for k, v in reported.items() if v is not None and v is not False and v != []}


def written(param: click.Parameter) -> str:
    if isinstance(param, click.Argument):
        return param.human_readable_name
    return ", ".join([*param.opts, *param.secondary_opts])


def test_commands_and_their_options_are_frozen() -> None:
    now = {
        path: {written(param): described(param) for param in command.params}
        for path, command in commands(root_command()).items()
    }
    frozen.hold("commands", now)


def test_every_command_answers_h() -> None:
    for path, command in commands(root_command()).items():
        # Click keeps the help option of the first call, also of a test that calls a command alone.
        command._help_option = None
        words = [*path.split()[1:], "-h"]
        assert CliRunner().invoke(root_command(), words).exit_code == 0, path


def test_arguments_keep_their_order() -> None:
    now = {
        path: [param.human_readable_name for param in command.params if _argument(param)]
        for path, command in commands(root_command()).items()
    }
    frozen.hold("arguments", now)


def _argument(param: click.Parameter) -> bool:
    return isinstance(param, click.Argument)


def test_exit_codes_of_errors_are_frozen() -> None:
    errors = importlib.import_module("pipeline.errors")
    classes = [one for one in vars(errors).values() if isinstance(one, type)]
    codes = {one.__name__: getattr(one, "exit_code", None) for one in classes}
    readme = " ".join((ROOT / "README.md").read_text().split())
    documented = re.search(r"Exit codes: (0 .+?130 [\w-]+)\.", readme)
    assert documented is not None, "README.md lists the exit codes"
    pairs = (entry.split(" ", 1) for entry in re.split(r", (?=\d)", documented.group(1)))
    frozen.hold("exit_codes", {"classes": codes, "documented": dict(pairs)})


def test_ctrl_c_ends_with_130_usage_with_2_and_a_bug_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = importlib.import_module("pipeline.cli.main").main
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)  # that of the tests stays
    for error, code in ((click.exceptions.Abort(), 130), (click.UsageError("no"), 2)):
        monkeypatch.setattr(click.Group, "main", _raising(error))
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
    monkeypatch.setattr(click.Group, "main", _raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        main()


def _raising(error: Exception) -> Any:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def sweep_schema() -> dict[str, Any]:
    """Return the JSON schema of a sweep file.

    The one place that looks inside: the model is found by its fields, wherever it is defined, once
    a command has read a sweep file.
    """
    from pydantic import BaseModel

    words = ["gates", "lint", str(ROOT / "sweeps" / "demo.yaml"), "--offline"]
    CliRunner().invoke(root_command(), words)
    waiting: list[type[BaseModel]] = [BaseModel]
    while waiting:
        model = waiting.pop()
        if {"ladder", "variants"} <= set(model.model_fields):
            return model.model_json_schema()
        waiting.extend(model.__subclasses__())
    raise AssertionError("no pydantic model has both ladder and variants")


def keys(schema: dict[str, Any], defs: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return every key that is accepted: its types, range and default, by path."""
    if "$ref" in schema:
        schema = {**defs[schema["$ref"].rpartition("/")[2]], **schema}
    found: dict[str, Any] = {}
    reported = {k: v for k, v in schema.items() if k in TOLD and not isinstance(v, dict)}
    if path and reported:
        found[path] = reported
    for one in schema.get("anyOf", ()):
        for place, inner in keys(one, defs, path).items():
            known = found.setdefault(place, {})
            kinds = {known.get("type"), inner.get("type")} - {None}
            known.update({**inner, "type": "|".join(sorted(kinds))} if kinds else inner)
    for name, inner in schema.get("properties", {}).items():
        place = f"{path}.{name}".lstrip(".")
        found |= keys(inner, defs, place)
        if name in schema.get("required", ()):
            found.setdefault(place, {})["required"] = True
    if isinstance(schema.get("items"), dict):
        found |= keys(schema["items"], defs, f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        found |= keys(schema["additionalProperties"], defs, f"{path}.*")
    for inner in schema.get("patternProperties", {}).values():
        found |= keys(inner, defs, f"{path}.*")
    return found


TOLD = (
    *("type", "enum", "const", "default", "pattern", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minProperties"),
    *("maxProperties",),
)


def test_keys_of_a_sweep_file_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    schema = sweep_schema()
    frozen.hold("sweep_file", keys(schema, schema.get("$defs", {})))


@pytest.fixture
def empty_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one sweep file, which uses every key."""
    (tmp_path / "sweeps").mkdir()
    shutil.copy(ROOT / "wandb.yaml", tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(EVERY_KEY, tmp_path / "sweeps" / "every.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sweep_file_with_every_key_is_read(empty_project: Path) -> None:
    ended = CliRunner().invoke(root_command(), ["gates", "lint", "every", "--offline", "--json"])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert json.loads(ended.stdout)["sweep"] == "every", ended.output


def test_the_file_with_every_key_lacks_none() -> None:
    text = EVERY_KEY.read_text(encoding="utf-8")
    known = json.loads((frozen.GOLDEN / "sweep_file.json").read_text(encoding="utf-8"))
    names = {path.rpartition(".")[2].removesuffix("[]") for path in known} - {"*"}
    missing = sorted(name for name in names if not re.search(rf"\b{name}:", text))
    assert not missing, f"{EVERY_KEY.name} lacks {', '.join(missing)}"


@pytest.mark.parametrize("place", ["", "objective.", "job.", "variants.baseline.", "search."])
def test_an_unknown_key_is_refused_with_its_line(empty_project: Path, place: str) -> None:
    file = empty_project / "sweeps" / "every.yaml"
    parents = place.split(".")[:-1]
    indent, line = "  " * len(parents), f"{parents[-1]}:" if parents else "name: every"
    text = file.read_text()
    at = re.search(rf"^\s*{re.escape(line)}.*$", text, re.M)
    assert at is not None
    file.write_text(f"{text[: at.end()]}\n{indent}surprise: 1{text[at.end() :]}")
    number = text[: at.end()].count("\n") + 2
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "gates", "lint", "every", "--offline"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 2
    assert f'sweeps/every.yaml:{number}: unknown key "surprise"' in ended.stderr


def variables(*places: str) -> set[str]:
    """Return the environment variables of ours that are named in files below some places."""
    found = set()
    for place in places:
        path = ROOT / place
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.suffix in (".pyc", ".xz", ".json") or not file.is_file():
                continue
            text = file.read_text(encoding="utf-8", errors="replace")
            found.update(re.findall(r"(?<![A-Z0-9_])_?PCAN_[A-Z0-9_]*[A-Z0-9]", text))
    return found


def test_environment_variables_are_frozen() -> None:
    product = variables("pipeline", "configs", "sweeps", "wandb.yaml")
    development = variables("tests", "benchmarks", "Makefile", ".ci") - product
    now = {"product": sorted(product), "development": sorted(development)}
    frozen.hold("environment_variables", now)


def test_docs_name_no_variable_that_there_is_not() -> None:
    known = variables("pipeline", "configs", "sweeps", "tests", "benchmarks", "Makefile", ".ci")
    assert variables("README.md", "CONTRIBUTING.md", "docs") <= known


#: Prints what importing the two public modules registers, with the arguments a config may give.
REGISTERED = """
import inspect, json, sys, warnings
warnings.simplefilter("ignore")
import importlib
public = {}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    public[name] = sorted(module.__all__)
from mmengine import registry
from mmaction import registry as action
found = {}
for source in (action, registry):
    for where, one in vars(source).items():
        if isinstance(one, registry.Registry):
            for name, made in one.module_dict.items():
                if getattr(made, "__module__", "").startswith("pipeline."):
                    told = {}
                    for word, param in inspect.signature(made).parameters.items():
                        bare = param.default is inspect.Parameter.empty
                        told[word] = "required" if bare else repr(param.default)
                        if param.kind is param.VAR_KEYWORD:
                            told[word] = "all others"
                    found.setdefault(one.name, {})[name] = told
print(json.dumps({"modules": public, "registered": found}))
"""


def test_what_a_config_imports_and_names_is_frozen() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REGISTERED, "pipeline.train.model", "pipeline.train.transforms"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    frozen.hold("imports", json.loads(ended.stdout.splitlines()[-1]))


def test_shipped_configs_import_only_frozen_modules() -> None:
    known = set(json.loads((frozen.GOLDEN / "imports.json").read_text())["modules"])
    for config in sorted((ROOT / "configs").glob("*.py")):
        assert set(re.findall(r"pipeline(?:\.\w+)+", config.read_text())) <= known, config


def test_a_job_is_started_with_its_run_directory_alone() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.train"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert ended.returncode == 2
    assert ended.stderr == "Give the run directory: python -m pipeline.train RUNDIR\n"
