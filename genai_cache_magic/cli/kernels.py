"""Executes a notebook in force: the package is imported into its kernel before the first cell."""

from __future__ import annotations

from typing import Any, Final

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from genai_cache_magic.errors import ConfigurationError

_IN_FORCE: Final = "__import__('genai_cache_magic');"
"""An import that leaves no name behind and shows nothing. The extension is the notebook's to load, or not."""


class InForce(NotebookClient):
    """Executes a notebook in a kernel in which what the environment says of the package holds from the first cell."""

    _is_in_force = False

    async def async_execute_cell(self, cell: Any, *args: Any, **kwargs: Any) -> Any:
        """Execute `cell`; before the first one, what puts the kernel in force.

        Raises
        ------
        ConfigurationError
            The kernel can't import the package: not one cell is executed.
        """
        if not self._is_in_force:
            try:
                await super().async_execute_cell(nbformat.v4.new_code_cell(_IN_FORCE), 0, store_history=False)  # type: ignore[no-untyped-call]
            except CellExecutionError as exc:
                raise ConfigurationError(
                    f"kernel {self.kernel_name} can't import genai_cache_magic ({exc.ename}), so nothing would keep it "
                    "from a model: pip install genai-cache-magic in its environment"
                ) from exc
            self.code_cells_executed = 0
            self._is_in_force = True
        return await super().async_execute_cell(cell, *args, **kwargs)
