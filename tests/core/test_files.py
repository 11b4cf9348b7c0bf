"""Files are written atomically; errors of the file system are one line for the user."""

import pytest

from hffruits.core.errors import InputError
from hffruits.core.files import (
    check_writable,
    optional_cache,
    translate_write_errors,
    write_aside,
    write_json,
    write_text,
)


def test_a_file_appears_when_it_is_whole(tmp_path):
    file = tmp_path / "new" / "predictions.csv"
    with write_aside(file) as aside:
        aside.write_text("path,label\n")
        assert not file.exists() and aside.parent == file.parent and aside.suffix == ".csv"
    assert file.read_text() == "path,label\n" and [*file.parent.iterdir()] == [file]


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path):
    file = tmp_path / "metrics.json"
    write_json(file, {"accuracy": 0.5})
    with pytest.raises(TypeError):
        write_json(file, {("no", "key"): 1})
    with pytest.raises(OSError, match="full"), write_aside(file) as aside:
        aside.write_text("half")
        raise OSError(28, "the disk is full")
    assert file.read_text() == '{\n  "accuracy": 0.5\n}\n' and [*tmp_path.iterdir()] == [file]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    file = tmp_path / "a.txt"
    with write_aside(file) as first, write_aside(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"  # whose block ended last


def test_names_that_are_not_utf_8_are_written_and_read_back(tmp_path):
    write_text(tmp_path / "list.txt", "caf\udce9\n")
    assert (tmp_path / "list.txt").read_text() == "caf\\udce9\n"


def test_a_long_name_can_be_written(tmp_path):
    write_text(tmp_path / ("n" * 250 + ".txt"), "text")
    assert (tmp_path / ("n" * 250 + ".txt")).read_text() == "text"


def test_what_cannot_be_written_is_the_users_error_with_a_remedy(tmp_path):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "x"
    message = r"file/x: can't be written \(File exists\)\. Move it\."
    with pytest.raises(InputError, match=message), translate_write_errors(inside, "Move it."):
        write_text(inside, "")
    with pytest.raises(InputError, match=r"file: can't be written \(File exists\)"):
        check_writable(tmp_path / "file")


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    with optional_cache(tmp_path / "file" / "x"), write_aside(tmp_path / "file" / "x"):
        pass
    assert "can't be written" in caplog.text


def test_a_folder_that_was_checked_is_left_empty(tmp_path):
    check_writable(tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run").iterdir()) == []
