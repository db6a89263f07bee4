import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hoverboard.errors import ConfigError, DataDirLocked, PortInUse
from hoverboard.supervisor import claims
from hoverboard.supervisor.claims import DataDir, address_of, admin_token, reserve, runtime_directory


class TestDataDir:
    def test_is_made_where_it_is_missing(self, tmp_path: Path) -> None:
        DataDir.claim(tmp_path / "a" / "b").release()
        assert (tmp_path / "a" / "b").is_dir()

    def test_belongs_to_one_service_at_a_time(self, tmp_path: Path) -> None:
        held = DataDir.claim(tmp_path)
        with pytest.raises(DataDirLocked, match=rf"{tmp_path} .*pid {os.getpid()}.*--data-dir"):
            DataDir.claim(tmp_path)
        held.release()
        DataDir.claim(tmp_path).release()

    def test_is_free_again_once_its_holder_was_killed(self, tmp_path: Path) -> None:
        code = (
            "import sys, time; from pathlib import Path; from hoverboard.supervisor.claims import DataDir\n"
            "data = DataDir.claim(Path(sys.argv[1])); data.note(pid=1, runtime='gone'); print('held', flush=True)\n"
            "time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(DataDirLocked):
                DataDir.claim(tmp_path)
            holder.kill()
        claimed = DataDir.claim(tmp_path)
        assert claimed.previous == {"pid": 1, "runtime": "gone"}
        claimed.release()

    def test_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match=str(tmp_path / "file")):
            DataDir.claim(tmp_path / "file")

    def test_says_who_holds_it(self, tmp_path: Path) -> None:
        held = DataDir.claim(tmp_path)
        held.note(pid=7, url="http://127.0.0.1:1")
        assert json.loads((tmp_path / "lock").read_text()) == {"pid": 7, "url": "http://127.0.0.1:1"}
        held.release()

    def test_with_a_garbled_lock_file_can_be_claimed(self, tmp_path: Path) -> None:
        (tmp_path / "lock").write_text("{garbled")
        held = DataDir.claim(tmp_path)
        assert held.previous == {}
        held.release()


class TestReserve:
    def test_answers_which_port_zero_became(self) -> None:
        with reserve("127.0.0.1", 0) as holder:
            assert address_of(holder) > 0

    def test_lets_those_share_the_port_who_ask_for_it(self) -> None:
        with reserve("127.0.0.1", 0) as holder, socket.socket() as first, socket.socket() as second:
            for sharing in (first, second):
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sharing.bind(("127.0.0.1", address_of(holder)))
                sharing.listen()

    def test_takes_no_connections_itself(self) -> None:
        with reserve("127.0.0.1", 0) as holder, socket.socket() as listener:
            port = address_of(holder)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen()
            for _ in range(50):
                with socket.create_connection(("127.0.0.1", port), timeout=5):
                    listener.accept()[0].close()

    @pytest.mark.parametrize("reuse_port", [False, True])
    def test_refuses_a_port_that_someone_listens_on_and_names_them(
        self,
        reuse_port: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(claims, "_PROBE_PATIENCE_S", 0.2)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port} is in use.*--admin-port"):
                reserve("127.0.0.1", port, setting="admin_port")

    def test_refuses_a_port_that_another_service_only_reserved(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(claims, "_PROBE_PATIENCE_S", 0.2)
        with reserve("127.0.0.1", 0) as holder, pytest.raises(PortInUse):
            reserve("127.0.0.1", address_of(holder))

    def test_takes_a_port_whose_connections_have_only_just_closed(self) -> None:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            client = socket.create_connection(("127.0.0.1", port))
            served, _ = listener.accept()
            served.close()  # the side that closes first waits in TIME_WAIT
            client.close()
        with reserve("127.0.0.1", port) as holder:
            assert address_of(holder) == port

    @pytest.mark.parametrize("host", ["no such host.invalid", "203.0.113.1"])
    def test_refuses_an_address_that_is_not_of_this_machine(self, host: str) -> None:
        with pytest.raises(ConfigError, match=host):
            reserve(host, 8080)


class TestRuntimeDirectory:
    def test_is_private_and_short_and_goes_away(self) -> None:
        with runtime_directory() as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert len(str(path / "engine-0.sock")) < 104
            (path / "engine-0.sock").touch()
        assert not path.exists()

    def test_is_short_even_where_temporary_files_are_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        deep = tmp_path / ("x" * 100)
        deep.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(deep))
        with runtime_directory() as path:
            assert len(str(path / "engine-0.sock")) < 104

    def test_takes_the_place_of_that_of_a_killed_service(self) -> None:
        with runtime_directory() as killed:
            (killed / "settings.json").touch()
            with runtime_directory(str(killed)):
                assert not killed.exists()

    def test_touches_nothing_else_whatever_the_lock_file_said(self, tmp_path: Path) -> None:
        precious = tmp_path / "hoverboard-precious"
        precious.mkdir()
        with runtime_directory(str(precious)):
            assert precious.exists()


class TestAdminToken:
    def test_is_made_once_and_readable_only_by_its_owner(self, tmp_path: Path) -> None:
        path = admin_token(tmp_path)
        first = path.read_text()
        assert len(first.strip()) >= 32
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert admin_token(tmp_path).read_text() == first
        assert [each.name for each in tmp_path.iterdir()] == ["admin.token"]

    def test_that_became_readable_by_others_is_closed_again(self, tmp_path: Path) -> None:
        path = admin_token(tmp_path)
        path.chmod(0o644)
        assert stat.S_IMODE(admin_token(tmp_path).stat().st_mode) == 0o600
