"""How many pixels a photo may have; imports nothing heavy, for it is a flag's default."""

from hffruits.core.errors import InputError

MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs; 256 MB as RGB


def check_max_pixels(max_pixels: int) -> None:
    """Raise `InputError` for a limit that can't be."""
    if not 1 <= max_pixels <= 2 * MAX_PIXELS:
        raise InputError(
            f"max_image_pixels={max_pixels}: must be between 1 and {2 * MAX_PIXELS:,}, the most "
            "that Pillow takes. Shrink larger photos first, or save them as JPEG."
        )
