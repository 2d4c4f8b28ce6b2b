"""Who is not to be scored: everybody who was erased from this workspace, and the user's own list. Pinned when a run begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scoring.admit.keys import key_ring
from scoring.admit.privacy import naming
from scoring.errors import ConfigError
from scoring.ledger.suppressed import digest_of, listed, people
from scoring.settings import Contract
from scoring.stores import Store


@dataclass(frozen=True)
class Suppressed:
    """`names` are pseudonyms; `erased` is the digest of those who were erased, `chosen` of the user's list, "" for nobody."""

    names: frozenset[str] = frozenset()
    erased: str = ""
    chosen: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """For the record of a run."""
        return {"suppressed": f"{len(self.names)} people, sha256 {digest_of(self.names)}"} if self.names else {}


def suppressed(contract: Contract, store: Store | None) -> Suppressed:
    """Raises:
    ConfigError: the list cannot be read, holds people under a key that the environment lacks, or people were erased from the
    workspace and the contract does not say which column identifies them.
    """
    erased = listed(store) if store else frozenset()
    privacy = contract.privacy
    if privacy.subject is None:
        if erased:
            raise ConfigError(
                f"{len(erased)} people were erased from this workspace and would come back: contract.privacy.subject must say "
                "which column identifies a person."
            )
        return Suppressed()
    if not erased and privacy.suppress is None:
        return Suppressed()
    names = naming(contract, key_ring(privacy))
    erased = names.parse(erased, "control/suppression of the workspace")
    if privacy.suppress is None:
        return Suppressed(erased, people(store))
    chosen = names.parse(_lines(privacy.suppress), "contract.privacy.suppress")
    return Suppressed(erased | chosen, people(store), digest_of(chosen))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"contract.privacy.suppress: {path} cannot be read: {getattr(error, 'strerror', 'not UTF-8')}.") from None
