"""Who may import whom, and what the control side never imports."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrows import ARROWS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pipeline"

#: What runs inside a job may use of ours.
TRAIN = "pipeline.shared"
TORCH_SIDE = ("torch", "mmengine", "mmaction", "mmcv")
#: Module -> folders that may import it.
OWNERS = {"optuna": {"study"}, "wandb": {"track"}, "click": {"cli"}}


def imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def modules(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", sorted(ARROWS))
def test_imports_follow_the_arrows(folder: str) -> None:
    for file in modules(folder):
        for name in imports_of(file):
            if name.split(".")[0] == "pipeline":
                target = name.split(".")[1] if "." in name else folder
                assert target in ARROWS[folder] | {folder}, f"{file.relative_to(ROOT)}: {name}"


def test_a_job_uses_nothing_of_ours_but_what_both_sides_share() -> None:
    for file in modules("train"):
        for name in imports_of(file):
            if name.startswith("pipeline.") and not name.startswith("pipeline.train"):
                assert name.startswith(TRAIN), f"{file.relative_to(ROOT)} imports {name}"
            assert name.split(".")[0] not in ("optuna", "wandb", "click", "pydantic", "yaml")


def test_only_train_touches_torch() -> None:
    for file in sorted(PACKAGE.rglob("*.py")):
        folder = file.relative_to(PACKAGE).parts[0]
        if folder == "train":
            continue
        for name in imports_of(file):
            assert name.split(".")[0] not in TORCH_SIDE, f"{file.relative_to(ROOT)}: {name}"


@pytest.mark.parametrize("module", sorted(OWNERS))
def test_each_library_has_one_home(module: str) -> None:
    for file in sorted(PACKAGE.rglob("*.py")):
        folder = file.relative_to(PACKAGE).parts[0]
        if any(name.split(".")[0] == module for name in imports_of(file)):
            assert folder in OWNERS[module], f"{file.relative_to(ROOT)} imports {module}"


def test_no_room_imports_train() -> None:
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).parts[0] != "train":
            assert not any(name.startswith("pipeline.train") for name in imports_of(file)), file


def test_package_folders_import_nothing() -> None:
    for folder in sorted(p for p in PACKAGE.iterdir() if (p / "__init__.py").exists()):
        # The torch side repairs yapf before any of its modules can import MMEngine.
        allowed = ["pipeline.train.compat"] if folder.name == "train" else []
        assert list(imports_of(folder / "__init__.py")) == allowed, folder


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        ("--help", ("pydantic", "yaml", "sqlalchemy", "optuna", "wandb", "rich", "torch")),
        ("sweep --help", ("pydantic", "yaml", "sqlalchemy", "optuna", "wandb", "torch")),
        ("sweep list", ("optuna", "wandb", *TORCH_SIDE)),
        ("sweep status", ("optuna", "wandb", *TORCH_SIDE)),
    ],
)
def test_a_command_loads_no_more_than_it_needs(words: str, absent: tuple[str, ...]) -> None:
    program = (
        "import sys\nfrom pipeline.cli.main import main\n"
        f"sys.argv = ['pcan', *{words.split()!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert not loaded & set(absent)


def test_a_command_looks_for_no_plugin_of_pydantic(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text("print('PLUGGED')\nplugin = None\n")
    info = tmp_path / "plug-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pydantic]\nplug = plug:plugin\n")
    status = "from pipeline.cli.main import cli; cli(['sweep', 'status'], standalone_mode=False)"
    model = "import pydantic; type('A', (pydantic.BaseModel,), {})"
    kept = "import os; print('KEPT', os.environ.get('PYDANTIC_DISABLE_PLUGINS'))"
    shown = []
    for program in (f"{status}\n{kept}", model):  # the second ends by the plugin, which is none
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        shown.append(done.stdout)
    assert "PLUGGED" not in shown[0] and "KEPT None" in shown[0]
    assert "PLUGGED" in shown[1]


def test_trials_are_inserted_in_one_place() -> None:
    found = [f.name for f in modules("study") if "insert(trials)" in f.read_text()]
    assert found == ["add_trial.py"]
