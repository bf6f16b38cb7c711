"""The torch side of a job and of the small programs that answer a command."""

from pipeline.train.compat import prepare_yapf

# Before any module of this folder imports MMEngine, and with it yapf.
prepare_yapf()
