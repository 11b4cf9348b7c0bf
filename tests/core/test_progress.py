import io
import sys

from tqdm.auto import tqdm

from hffruits.core.progress import progress_bar


class Clock:
    """Time that passes as told."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        for name in ("tqdm.std.time", "hffruits.core.progress.time.monotonic"):
            monkeypatch.setattr(name, lambda: self.now)


def test_a_log_gets_a_whole_line_now_and_then_and_no_carriage_return(capsys, monkeypatch):
    clock = Clock(monkeypatch)
    for _ in progress_bar(range(1200), "Checking images", unit="img", leave=True):
        clock.now += 0.1
    log = capsys.readouterr().err
    lines = log.splitlines()
    assert "\r" not in log and log.endswith("\n")
    assert len(lines) == 1
    assert lines[0].startswith("Checking images: 60") and lines[0].endswith("so far")
    assert " of 1,200, 1 min" in lines[0] and " left, 1 min so far" in lines[0]


def test_where_the_end_is_not_known_the_line_says_how_far_it_is(capsys, monkeypatch):
    clock = Clock(monkeypatch)
    with progress_bar(desc="Unpacking fruits.tar") as bar:
        clock.now += 90
        bar.update(5)
    assert capsys.readouterr().err == "Unpacking fruits.tar: 5, 1 min 30 s so far\n"


def test_what_is_short_writes_nothing_into_a_log(capsys):
    assert list(progress_bar(range(5), "Short")) == list(range(5))
    assert capsys.readouterr().err == ""


def test_another_line_puts_off_the_next_one_of_progress(capsys, monkeypatch):
    clock = Clock(monkeypatch)
    with progress_bar(desc="Training", total=10) as bar:
        clock.now += 50
        tqdm.write("epoch 1", file=sys.stderr)
        clock.now += 50
        bar.update()
    assert capsys.readouterr().err == "epoch 1\n"


def test_a_terminal_has_the_usual_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    bar = progress_bar(range(3), "Predicting")
    assert type(bar) is tqdm and list(bar) == [0, 1, 2]
    assert "\r" in terminal.getvalue()
