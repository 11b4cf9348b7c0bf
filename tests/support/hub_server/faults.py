"""Injected faults of the Hub server: chosen in advance and counted down."""

from dataclasses import dataclass, field


@dataclass
class Fault:
    """Spoils the next `times` requests whose path contains `match`, once `after` have passed.

    With none of the kinds below set, the fault does nothing but count.
    """

    match: str
    method: str | None = None  # every method
    times: float = 1  # math.inf for always
    after: int = 0
    status: int | None = None  # answered in place of the true answer; nothing is applied
    headers: dict[str, str] = field(default_factory=dict)  # of that answer
    cut_after: int | None = None  # bytes: of the body of a POST or PUT, else of the answer's body
    lose_answer: bool = False  # the request is applied, then the connection is cut
    delay: float = 0  # seconds before the answer is sent; the request is applied at once

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request fails; counts it."""
        if self.times <= 0 or self.match not in path or self.method not in (None, method):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True
