"""What running a trial needs of the right to run it: a lease of a study, or none at all."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipeline.shared.measurement import Measurement


class TrialLease(Protocol):
    """The part of `study.lease.Lease` that a running trial uses."""

    @property
    def variant(self) -> str: ...

    @property
    def number(self) -> int | str: ...

    @property
    def name(self) -> str: ...

    @property
    def token(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def searched(self) -> bool: ...

    @property
    def params(self) -> Mapping[str, Any]: ...

    @property
    def previous(self) -> Mapping[str, Any]: ...

    def renew(self) -> None: ...

    def report(
        self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]
    ) -> None: ...

    def tell(
        self,
        state: str,
        history: Sequence[Measurement],
        *,
        cause: str | None,
        reason: str,
        verdicts: Sequence[Mapping[str, Any]],
        seconds: float,
    ) -> None: ...

    def release(self, phase: str, *, cause: str | None, reason: str, seconds: float) -> None: ...


@dataclasses.dataclass(kw_only=True)
class NullLease:
    """A lease for `pcan train`, which has no study; its methods store nothing."""

    variant: str
    number: str
    token: str
    params: Mapping[str, Any]
    attempt: int = 1
    searched: bool = False

    @property
    def name(self) -> str:
        return f"{self.variant}/{self.number}"

    @property
    def previous(self) -> Mapping[str, Any]:
        return {"uid": self.token, "recipe_hash": None}

    def renew(self) -> None:
        pass

    def report(
        self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]
    ) -> None:
        pass

    def tell(self, state: str, history: Sequence[Measurement], **why: Any) -> None:
        pass

    def release(self, phase: str, **why: Any) -> None:
        pass
