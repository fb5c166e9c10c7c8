"""Who is compared: where the rows are, who decides what stays, and what is fetched ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Contender:
    """A way to serve the embeddings of a model.

    Parameters
    ----------
    caching : str
        The policy of the fast tier; of those `without` prefetching all but that. Empty where all
        rows are in DRAM.
    trained : str
        The learned policy whose directory it runs from; empty for a simple one.
    own : bool
        Whether the policy fetches ahead what it foretells.
    auto_pause : bool
        Whether the policy pauses while it costs more than it saves, as it does by default.
    ahead : int
        How many queued requests have their rows fetched ahead.
    memory : {"store", "store in DRAM", "torch in DRAM"}
        Where the rows are.
    in_short : bool
        Whether it also runs where only some do: at further capacities, and under load.
    in_quick : bool
        Whether a quick run has it.
    """

    caching: str
    trained: str = ""
    own: bool = False
    auto_pause: bool = True
    ahead: int = 0
    memory: Literal["store", "store in DRAM", "torch in DRAM"] = "store"
    in_short: bool = False
    in_quick: bool = False

    @property
    def label(self) -> str:
        """What tables call it."""
        if self.memory != "store":
            return f"all in DRAM, {self.memory.partition(' ')[0]}"
        unpaused = "" if self.auto_pause else " (never paused)"
        ahead = f" + {self.ahead} ahead" if self.ahead else ""
        return f"{self.name}{unpaused}{ahead}"

    @property
    def name(self) -> str:
        """Its policy, as users name it where there is a name for it."""
        if self.caching == "recmg":
            return "recmg" if self.own else "recmg-caching"
        if self.trained and not self.own:
            return f"{self.caching} without prefetching"
        return self.caching

    @property
    def prefetching(self) -> str:
        """What is fetched ahead, in words."""
        parts = ["what the policy foretells"] if self.own else []
        parts += [f"{self.ahead} queued"] if self.ahead else []
        return " and ".join(parts) or "none"


LRU = "lru"
IN_DRAM = "all in DRAM, torch"

_PAPER = "recmg-paper"

CONTENDERS: tuple[Contender, ...] = (
    Contender("", memory="torch in DRAM", in_short=True, in_quick=True),
    Contender("", memory="store in DRAM", in_short=True, in_quick=True),
    Contender(LRU, in_short=True, in_quick=True),
    Contender("s3fifo", in_short=True),
    Contender(_PAPER, _PAPER, auto_pause=False),
    Contender(_PAPER, _PAPER, own=True, auto_pause=False, in_short=True),
    Contender("recmg", "recmg", auto_pause=False, in_short=True),
    Contender("recmg", "recmg", own=True, auto_pause=False, in_short=True, in_quick=True),
    Contender(_PAPER, _PAPER, own=True),
    Contender("recmg", "recmg"),
    Contender("recmg", "recmg", own=True, in_short=True, in_quick=True),
    *(
        Contender(
            caching,
            trained,
            own=bool(trained),
            ahead=ahead,
            in_short=ahead == 2,
            in_quick=ahead == 2 and caching == LRU,
        )
        for caching, trained in ((LRU, ""), ("s3fifo", ""), ("recmg", "recmg"))
        for ahead in (1, 2, 4)
    ),
    Contender("recmg", "recmg", own=True, auto_pause=False, ahead=2, in_short=True),
)

LABELS = tuple(contender.label for contender in CONTENDERS)
