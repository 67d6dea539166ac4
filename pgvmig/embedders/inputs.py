"""From a row's text to what is sent: prefix, length, and no empty texts. Pure."""

from __future__ import annotations

from pgvmig.contract import Contract
from pgvmig.embedders.base import EMPTY, TOO_LONG
from pgvmig.errors import ContractError, InputRejectedError


class Inputs:
    """Prepares the texts of one contract."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        longest = max(len(contract.document_prefix), len(contract.query_prefix))
        if contract.max_input is not None and contract.max_input <= longest:
            raise ContractError(
                f"max_input is {contract.max_input:,} and a prefix has {longest:,} characters already",
                hazard="max_input counts what is sent: every text would be cut to the same prefix, or be refused",
                next_step="raise max_input in a new version's contract",
            )

    def document(self, text: str) -> str:
        """Return what is sent for a row's text. Raises InputRejectedError."""
        return self._prepare(self._contract.document_prefix, text)

    def query(self, text: str) -> str:
        """Return what is sent for a search. Raises InputRejectedError."""
        return self._prepare(self._contract.query_prefix, text)

    def _prepare(self, prefix: str, text: str) -> str:
        limit = self._contract.max_input
        if limit is not None and len(prefix) + len(text) > limit:
            text = self._shortened(prefix, text, limit)
        # The worker records empty rows without asking; what SQL and Python call white space need not agree, though.
        if not text or text.isspace():
            raise InputRejectedError(
                "the text is empty or only white space",
                hazard="A provider refuses it, or gives all such rows one meaningless vector",
                kind=EMPTY,
            )
        return prefix + text

    def _shortened(self, prefix: str, text: str, limit: int) -> str:
        if self._contract.too_long == "truncate":
            return text[: limit - len(prefix)]
        with_prefix = f", {len(prefix):,} of them the prefix" if prefix else ""
        length = len(prefix) + len(text)
        raise InputRejectedError(
            f"the text has {length:,} characters{with_prefix}; the contract's max_input is {limit:,}",
            hazard="Most models cut longer texts without a word, and the rest is not found by any search",
            next_step="split or shorten the text, or make a version with another max_input or too_long: truncate",
            kind=TOO_LONG,
            length=length,
            limit=limit,
        )
