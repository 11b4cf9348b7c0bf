"""Parts of an upload, checked as they arrive: gradio holds a part that is no file in memory.

Nothing is kept but the headers of one part.
"""

from python_multipart.multipart import MultipartParser, parse_options_header


class FilePartsOnly:
    """Raises `ValueError` at a part of a multipart body that is not a file.

    `content_type` is the request's header; without a boundary in it, that is a `ValueError` too.
    """

    def __init__(self, content_type: bytes):
        _, options = parse_options_header(content_type)
        if b"boundary" not in options:
            raise ValueError("no boundary")
        names = "part_begin", "header_field", "header_value", "header_end", "headers_finished"
        callbacks = {f"on_{name}": getattr(self, f"_{name}") for name in names}
        self._parser = MultipartParser(options[b"boundary"], callbacks)
        self._part_begin()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._parser.write(chunk)  # whose own errors are ValueErrors as well

    def _part_begin(self) -> None:
        self._field = self._value = self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value  # the last one counts, as for gradio
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        if b"filename" not in parse_options_header(self._disposition)[1]:
            raise ValueError("a part that is not a file")
