"""Counts in words: `1 photo`, `1,776 photos`."""


def counted(number: float, one: str, many: str = "") -> str:
    """The number and what it counts, in the singular where it is 1; `many` where not `one` + s.

    >>> counted(1, "class", "classes"), counted(2.5, "epoch")
    ('1 class', '2.5 epochs')
    """
    figure = f"{number:,}" if isinstance(number, int) else f"{number:.4g}"
    return f"{figure} {one if number == 1 else many or one + 's'}"
