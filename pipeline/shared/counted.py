"""Numbers with their noun: "1 epoch", "2 epochs". Every message takes them from here."""


def counted(count: float, one: str, many: str = "") -> str:
    """Return a number and the noun in the form that the number asks for.

    Args:
        one: the words after 1; with a verb where the sentence goes on with one ("clip has").
        many: the words after any other number; left out, `one` with an s.
    """
    return f"{count:g} {one}" if count == 1 else f"{_plain(count)} {many or one + 's'}"


def all_of(count: int, one: str, many: str) -> str:
    """Return "All 8 epochs are", and "The only epoch is" of one."""
    return f"The only {one}" if count == 1 else f"All {counted(count, one, many)}"


def _plain(count: float) -> str:
    return f"{count:,}".replace(",", "") if isinstance(count, int) else f"{count:g}"
