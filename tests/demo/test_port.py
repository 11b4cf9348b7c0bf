"""The demo's port: what is asked for or nothing, and one line for what can't be."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hffruits.core.errors import InputError
from hffruits.demo.port import DEFAULT_PORT, choose_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_free_port_is_taken_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    assert choose_port(port) == port
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(port))
    assert choose_port() == port


def test_a_taken_port_is_refused_with_the_remedy(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=rf"^port={taken}: can't be used .*another"):
        choose_port(taken)
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(taken))
    with pytest.raises(InputError, match=rf"^GRADIO_SERVER_PORT={taken}: can't be used"):
        choose_port()


def test_where_none_is_asked_for_the_next_free_one_is_taken(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    monkeypatch.setattr("hffruits.demo.port.DEFAULT_PORT", taken)
    assert taken < choose_port() < taken + 100
    monkeypatch.setattr("hffruits.demo.port.TRIED", 1)
    with pytest.raises(InputError, match="are taken"):
        choose_port()
    assert DEFAULT_PORT == 7860


@pytest.mark.parametrize("name", ["no.such.invalid", "192.0.2.1", "a" * 70, "::1%none"])
@pytest.mark.parametrize("port", [None, 7999])
def test_an_address_that_is_not_this_machines_is_named_and_looked_up_once(
    port: int | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, look_up = [], socket.getaddrinfo

    def counted(host: str, *arguments: object) -> list:
        asked.append(host)
        return look_up(host, *arguments)

    monkeypatch.setattr("socket.getaddrinfo", counted)
    monkeypatch.setenv("GRADIO_SERVER_NAME", name)
    with pytest.raises(InputError, match=f"^GRADIO_SERVER_NAME={name}: .*Use 127.0.0.1") as raised:
        choose_port(port)
    assert asked == [name] and "taken" not in str(raised.value)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_an_address_of_this_machine_is_served_at(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", name)
    assert choose_port() >= DEFAULT_PORT


@pytest.mark.parametrize("text", ["abc", "-1", "0", "65536", "7860.0", "7860x", "9" * 5000])
def test_what_is_no_port_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", text)
    with pytest.raises(InputError, match="from 1 to 65535"):
        choose_port()


def test_the_command_says_so_in_one_line_before_it_loads_anything(taken: int) -> None:
    command = [sys.executable, "-X", "importtime", ROOT / "app.py", "--port", str(taken)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2
    assert len(lines) == 1 and f"port={taken}: can't be used" in lines[0]
    assert "| gradio" not in done.stderr and "| torch" not in done.stderr
