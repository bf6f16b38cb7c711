"""How an export is tested and trained again where its job ran: the last part of its README.md.

The commands run in the project's folder, where relative paths of a config begin, by the job's own
interpreter and with the checkout that its job imported first. Paths are those of the sweep file.
"""

import dataclasses
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.plan.sweep import JobSettings
from pipeline.report.best.exported_config import ROOT_VARIABLE, ExportedConfig
from pipeline.shared.counted import counted

_RUN = "from mmengine import Config; from mmengine.runner import Runner"
#: Nothing but pcan itself is imported: it may be installed without what it needs.
_PCAN = "$(python -c 'import pipeline; print(pipeline.__path__[0])')/job_path"
#: pip takes pcan for an older Python only if asked; what jobs import of it runs there.
_OLDEST_PYTHON = (3, 11)
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportUsage:
    """What the commands of an export depend on.

    Args:
        root: of the project.
        folder: of the export.
        start: the checkpoint that the trial began with, as the project names it; None for
            random weights.
        start_copy: a file of the export with those weights, where MMEngine needs one.
        data_root: where the trial read its data, as a shell would take it; None where that is
            what the config says.
    """

    job: JobSettings
    config: ExportedConfig
    root: Path
    folder: Path
    start: str | None
    start_copy: str | None
    data_root: str | None
    versions: Mapping[str, str]

    def lines(self) -> list[str]:
        """Return the part of the README."""
        return [
            "",
            f"It needs the packages in `best.json` under `versions`{self._checkout()}.",
            *self._data(),
            "",
            "In a new environment, once, from this folder:",
            "",
            *(f"    {line}" for line in self._install()),
            "",
            *self._builds(),
            "",
            "In the project's folder, where relative paths of the config begin:",
            "",
            *(f"    {line}" for line in self._setup()),
            "",
            "Test:",
            "",
            f"    {self._one_liner('test', f'{self._here}/weights.pth', 'test')}",
            *self._their_test(),
            "",
            f"Train again, {self._from()}:",
            "",
            f"    {self._one_liner('train', self._load_from, 'train')}",
            *self._their_training(),
            "",
        ]

    @property
    def _here(self) -> str:
        return os.path.relpath(self.folder, self.root)

    @property
    def _python(self) -> str:
        if self.job.python is None:
            return "python"
        return shlex.quote(os.path.expanduser(self.job.python))

    @property
    def _code(self) -> str | None:
        return os.path.expanduser(self.job.code_root) if self.job.code_root else None

    @property
    def _load_from(self) -> str | None:
        return f"{self._here}/{self.start_copy}" if self.start_copy else self.start

    def _checkout(self) -> str:
        words = []
        if self._code is not None:
            words.append(f"the checkout `{self._code}` (its commit: `code.code_root`)")
        if self.config.needs_pcan:
            words.append("pcan's own package, which brings the model")
        return "".join(f", and {one}" for one in words)

    def _from(self) -> str:
        if self.start is None:
            return "from random weights"
        copy = f" (its weights alone: `{self.start_copy}`)" if self.start_copy else ""
        return f"from `{self.start}`{copy}"

    def _data(self) -> Iterator[str]:
        """Yield where the data are looked for."""
        root, outside = self.config.data_root, self.config.unmoved
        if root is None:
            yield "The data are looked for where the config says."
            return
        yield f"`{ROOT_VARIABLE}`, where it is set, names the folder of the data in place of"
        yield f"`{root}`."
        if outside:
            yield f"It does not reach {', '.join(outside)}, whose paths lie elsewhere."

    def _install(self) -> Iterator[str]:
        release = self._release
        python = f"python{'.'.join(map(str, release))}"
        yield f"{python} -m venv env && . env/bin/activate"
        yield "pip install -r requirements.txt"
        if self.config.needs_pcan:
            older = "--ignore-requires-python " if () < release < _OLDEST_PYTHON else ""
            file = "PCAN  # its folder or wheel; it is on no package index"
            yield f"pip install --no-deps {older}{file}"

    @property
    def _release(self) -> tuple[int, ...]:
        """Return the Python of the trial, its first two numbers; () where it is not on record."""
        return tuple(int(n) for n in self.versions.get("python", "").split(".")[:2] if n.isdigit())

    def _builds(self) -> Iterator[str]:
        """Yield which build of torch pip takes, and what else differs in the new environment."""
        trained = self.versions.get("torch")
        if trained is not None:
            yield f"The trial ran with torch {trained}."
        yield "On Linux pip takes torch's build for GPUs, with gigabytes of CUDA libraries; where"
        yield f"there is no GPU, add `--extra-index-url {_CPU_INDEX}`."
        if self.job.python is not None:
            yield f"In the new environment `python` takes the place of `{self._python}` below."

    def _setup(self) -> Iterator[str]:
        yield f"cd {shlex.quote(os.path.relpath(self.root, self.folder))}"
        pcan = [_PCAN] if self.config.needs_pcan and self.job.python is not None else []
        path = [*pcan, ".", *([self._code] if self._code else [])]
        yield f"export PYTHONPATH={_double(':'.join(path))}"
        if self.data_root is not None and self.config.data_root is not None:
            yield f"export {ROOT_VARIABLE}={self.data_root}"

    def _one_liner(self, verb: str, load_from: str | None, folder: str) -> str:
        """Return the command that runs one method of MMEngine's Runner."""
        config, work = f"{self._here}/config.py", f"{self._here}/{folder}"
        load = f"c.load_from = {_text(load_from)}; " if load_from else ""
        program = (
            f"{_RUN}; c = Config.fromfile({_text(config)}); c.work_dir = {_text(work)}; "
            f"{load}Runner.from_cfg(c).{verb}()"
        )
        return f"{self._python} -c {shlex.quote(program)}"

    def _has(self, program: str) -> str | None:
        """Return a program of the user's checkout, quoted, if it is there."""
        found = self._code is not None and (self.root / self._code / program).is_file()
        return shlex.quote(f"{self._code}/{program}") if found else None

    def _their_test(self) -> Iterator[str]:
        program, here = self._has("tools/test.py"), self._here
        if program is not None:
            files = [f"{here}/config.py", f"{here}/weights.pth", "--work-dir", f"{here}/test"]
            yield from ("", "or by the checkout's own program:", "")
            yield f"    {self._python} {program} {shlex.join(files)}"

    def _their_training(self) -> Iterator[str]:
        program, here = self._has("tools/dist_train.sh"), self._here
        if program is not None:
            words = [f"{here}/config.py", str(self.job.gpus), "--work-dir", f"{here}/train"]
            load = ["--cfg-options", f"load_from={self._load_from}"] if self.start else []
            path = ""
            if self.job.python is not None:
                folder = os.path.dirname(os.path.expanduser(self.job.python))
                path = f'PATH={_double(folder)}:"$PATH" '
            yield from ("", f"or by the checkout's own, on {counted(self.job.gpus, 'GPU')}:", "")
            yield f"    {path}bash {program} {shlex.join([*words, *load])}"


def placed_root(given: str | None, used: str | None, own: str | None) -> str | None:
    """Return where a trial read its data, for a shell; None where that is its config's own place.

    Args:
        given: the sweep's `data.root` as it is written.
        used: the folder in the trial's config, of this machine.
        own: the folder in the config without facts of this machine.
    """
    if used is None or used == own:
        return None
    if given is not None and os.path.expandvars(os.path.expanduser(given)) == used:
        return _double(f"$HOME{given[1:]}" if given.startswith("~/") else given)
    return "DIR  # the folder that was given with --set data_root"


def _double(text: str) -> str:
    """Quote for the shell; its variables and `$(...)` stay alive."""
    return f'"{text}"'


def _text(text: str | None) -> str:
    return json.dumps(text, ensure_ascii=False)
