"""A real Jupyter server, with a token and XSRF checks as it comes, in a process and a home of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parents[1]
WAIT_S = 90
API = "genai-cache/api/v1/"

DENYING = '''
from jupyter_server.auth.authorizer import Authorizer


class Denying(Authorizer):
    """Allows everything but the resource that a request names in its header."""

    def is_authorized(self, handler, user, action, resource):
        return handler.request.headers.get("X-Deny", "") not in (resource, f"{action}:{resource}")
'''


def isolated_server(home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which a server, and the kernels that it starts, read and write nothing of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENAI_CACHE_", "JUPYTER_"))}
    places = {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_PATH": str(home / "share"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "GENAI_CACHE_DIR": str(home / "llm-cache"),
        "GENAI_CACHE_KEY_FILE": str(home / "keys" / "default.key"),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(home)]),
    }
    return {**kept, **places, **more}


NEWS = Path("@jupyterlab", "apputils-extension", "notification.jupyterlab-settings")
KERNEL = {
    "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    "display_name": "Python 3",
    "language": "python",
    "metadata": {"debugger": False},
}
"""With the interpreter of the tests, whatever is first on PATH."""


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _where_lab_is(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables that name JupyterLab's own files: an environment may use the packages of another one."""
    found = importlib.util.find_spec("jupyterlab")
    if found is None or found.origin is None:
        return {}
    share = Path(found.origin).parents[4] / "share" / "jupyter"
    return {
        "JUPYTERLAB_DIR": str(share / "lab"),
        "JUPYTER_PATH": os.pathsep.join([environment["JUPYTER_PATH"], str(share)]),
    }


class JupyterServer:
    """A server that runs until it is closed.

    Attributes
    ----------
    url
        Its base URL, with a slash at its end.
    """

    def __init__(
        self,
        home: Path,
        app: str = "jupyter_server",
        *options: str,
        is_enabled: bool = True,
        also: tuple[str, ...] = (),
        **more: str,
    ) -> None:
        self.home = home
        self.token = secrets.token_hex(16)
        self.environment = isolated_server(home, **more)
        self.notebooks = home / "notebooks"
        self.notebooks.mkdir(parents=True, exist_ok=True)
        (home / "denying.py").write_text(DENYING, encoding="utf-8")
        self.environment |= _where_lab_is(self.environment)
        share = home / "share" / "labextensions"
        share.mkdir(parents=True, exist_ok=True)
        built = REPOSITORY / "genai_cache_magic" / "jupyter" / "labextension"
        if not (share / "genai-cache-magic").exists():
            (share / "genai-cache-magic").symlink_to(built)
        _write(home / "share" / "kernels" / "python3" / "kernel.json", KERNEL)
        _write(home / "config" / "lab" / "user-settings" / NEWS, {"fetchNews": "false", "checkForUpdates": False})
        base = "/user/ann/"
        wanted = {"genai_cache_magic": is_enabled} | dict.fromkeys(also, True)
        extensions = ", ".join(f"'{name}': {is_on}" for name, is_on in wanted.items())
        command = [
            sys.executable, "-m", app, "--allow-root", "--no-browser", "--ServerApp.port=0",
            f"--IdentityProvider.token={self.token}", f"--ServerApp.base_url={base}",
            f"--ServerApp.root_dir={self.notebooks}", "--ServerApp.authorizer_class=denying.Denying",
            f"--ServerApp.jpserver_extensions={{{extensions}}}", *options,
        ]  # fmt: skip
        self._log = (home / "server.log").open("wb")
        self._process = subprocess.Popen(
            command, env=self.environment, cwd=home, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self.url = self._found(base)
        except BaseException:
            self.close()
            raise

    def _found(self, base: str) -> str:
        """Return the URL, once the server has chosen a port and answers."""
        runtime = Path(self.environment["JUPYTER_RUNTIME_DIR"])
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            for file in runtime.glob("jpserver-*.json"):
                try:
                    port = json.loads(file.read_text())["port"]
                    url = f"http://127.0.0.1:{port}{base}"
                    if requests.get(f"{url}api", timeout=10).ok:
                        return url
                except (ValueError, KeyError, requests.ConnectionError):
                    pass
            time.sleep(0.05)  # until its file is there: nobody tells of it
        raise AssertionError(f"the Jupyter server did not start: {self.log[-3000:]}")

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.home / "server.log").read_text(encoding="utf-8", errors="replace")

    @property
    def with_token(self) -> Mapping[str, str]:
        """The header of a client that has the token."""
        return {"Authorization": f"token {self.token}"}

    def browser(self) -> requests.Session:
        """Return a session that has logged in as a browser does, by cookies: without the token from then on."""
        session = requests.Session()
        session.get(f"{self.url}login", timeout=30)
        xsrf = session.cookies["_xsrf"]
        answer = session.post(f"{self.url}login", data={"password": self.token, "_xsrf": xsrf}, timeout=30)
        answer.raise_for_status()
        return session

    def close(self) -> None:
        """End it, and its kernels."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)
        self._log.close()
