"""Which front end stands behind a kernel, as far as it can be told: kernels are not told."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def shows_widgets_only(shell: InteractiveShell) -> bool:
    """Return whether the front end has no extension of ours, but draws widgets: VS Code or Colab."""
    return hasattr(shell, "kernel") and (_is_vscode(shell) or _is_colab())


def _is_vscode(shell: InteractiveShell) -> bool:
    # It names the notebook to each kernel; a JupyterLab that is started in its terminal inherits variables alone.
    if "__vsc_ipynb_file__" in shell.user_ns:
        return True
    return "VSCODE_PID" in os.environ and "JPY_SESSION_NAME" not in os.environ


def _is_colab() -> bool:
    return "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules
