"""Shell completion as `docs/ten-minutes.md` switches it on."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def complete(tmp_path: Path, **env: str) -> str:
    program = tmp_path / "pcan"
    program.write_text(f"#!{sys.executable}\nfrom pipeline.cli.main import main\nmain()\n")
    program.chmod(0o755)
    done = subprocess.run(
        [str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_shell_gets_its_lines(tmp_path: Path) -> None:
    for shell in ("zsh", "fish"):
        assert "pcan" in complete(tmp_path, _PCAN_COMPLETE=f"{shell}_source")


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    words = {"COMP_CWORD": "2", "_PCAN_COMPLETE": "bash_complete"}
    assert complete(tmp_path, COMP_WORDS="pcan sweep la", **words) == "plain,launch\n"
    words["COMP_CWORD"] = "3"
    found = complete(tmp_path, COMP_WORDS="pcan sweep launch --de", **words)
    assert found.split() == ["plain,--device", "plain,--detach"]
