"""A real PostgreSQL server in a temporary folder, from the distribution's packages; installs nothing.

``python tests/cluster/postgres.py`` starts one, prints the URL of an empty database, and stops it at Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

__all__ = ["PASSWORD", "PostgresServer", "ServerMissing", "running_server"]

PASSWORD = "s3cret/ p@ss%word"
"""Needs every kind of quoting; whoever finds it in a message has found a leak."""
_USER = "askesis"
_DEADLINE_S = 60.0
_FOREIGN_USERS = ("postgres", "nobody")
"""Who runs the server when we are root, which it refuses."""


class ServerMissing(Exception):
    """No server can be started here; the message says why."""


def find_binaries() -> Path:
    """The folder with initdb, pg_ctl and psql. Raises ServerMissing."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.insert(0, Path(on_path).resolve().parent)
    for folder in folders:
        if all((folder / name).is_file() for name in ("initdb", "pg_ctl", "postgres", "psql")):
            return folder
    raise ServerMissing("PostgreSQL's server programs are not installed (apt-get install postgresql)")


def _server_user() -> str | None:
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _FOREIGN_USERS:
        if name in known:
            return name
    raise ServerMissing("the server does not run as root, and no other user is known here")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """One server on a free port of the loopback, with password login.

    Args:
        folder: an empty folder; the data lies in it, and goes with it.
        settings: lines for postgresql.conf. Without ``fsync=on`` only processes may be killed, not the machine.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object] | None = None) -> None:
        self.binaries = find_binaries()
        self.user = _server_user()
        self.folder = folder
        self.data = folder / "data"
        self.port = _free_port()
        folder.chmod(0o755)
        if self.user is not None:
            shutil.chown(folder, self.user)
        secret = folder / "password"
        secret.write_text(PASSWORD + "\n")
        if self.user is not None:
            shutil.chown(secret, self.user)
        locale = ["--encoding=UTF8", "--locale=C.UTF-8"]
        login = ["--username", _USER, "--pwfile", str(secret), "--auth=scram-sha-256"]
        self._call("initdb", "-D", str(self.data), "--no-sync", *locale, *login)
        own = {
            "listen_addresses": "'127.0.0.1'",
            "port": self.port,
            "unix_socket_directories": f"'{folder}'",
            "fsync": "off",
            "shared_buffers": "'64MB'",
            **(settings or {}),
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in own.items())

    def url(self, database: str = "postgres", *, password: str | None = PASSWORD, query: str = "") -> str:
        """The address of a database; with ``password=None`` libpq has to find it elsewhere."""
        login = _USER if password is None else f"{_USER}:{quote(password, safe='')}"
        return f"postgresql+psycopg://{login}@127.0.0.1:{self.port}/{database}{query}"

    def start(self) -> None:
        """Start and wait until it answers."""
        log = str(self.folder / "log")
        self._call("pg_ctl", "start", "-D", str(self.data), "-l", log, "-w", "-t", str(int(_DEADLINE_S)))

    def stop(self, mode: str = "fast") -> None:
        """Stop and wait. ``immediate`` is a crash of all server processes at once."""
        self._call("pg_ctl", "stop", "-D", str(self.data), "-m", mode, "-w", "-t", str(int(_DEADLINE_S)))

    def kill(self) -> None:
        """``kill -9`` of the server; its processes notice and end."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        self._wait_until_dead()

    def restart_after_kill(self) -> None:
        """Start again once the old processes have let go of the shared memory."""
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                return self.start()
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the administrator, without our own code."""
        return self._call(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port),
            "-U", _USER, "-d", database, "-c", statement,
        )  # fmt: skip

    def _wait_until_dead(self) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                    return
            time.sleep(0.005)
        raise ServerMissing("the killed server still answers")

    def _call(self, program: str, *arguments: str) -> str:
        command = [str(self.binaries / program), *arguments]
        done = subprocess.run(
            command,
            user=self.user,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,  # a server inherits the pipe
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.STDOUT,
            text=True,
            timeout=2 * _DEADLINE_S,
            check=False,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
        return done.stdout or ""


@contextmanager
def running_server(settings: Mapping[str, object] | None = None) -> Iterator[PostgresServer]:
    """A server that is gone, with its data, afterwards. Raises ServerMissing."""
    find_binaries()
    folder = Path(tempfile.mkdtemp(prefix="askesis-postgres-"))
    try:
        server = PostgresServer(folder, settings)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with running_server() as shown:
        shown.sql("CREATE DATABASE store")
        print(shown.url("store"), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopped")
