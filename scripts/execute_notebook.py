"""Make turbo_inferencia.ipynb from turbo_inferencia.py and execute it: `python -m scripts.execute_notebook`.

The source is the `.py`, which a person can read and review; the executed copy shows what came out. Its environment
variables (NOTEBOOK_SWEEP, NOTEBOOK_RUN, NOTEBOOK_POOL) choose what is run.
"""

from pathlib import Path

import jupytext
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

SOURCE, EXECUTED = Path("turbo_inferencia.py"), Path("turbo_inferencia.ipynb")
TIMEOUT_S = 3600


def main() -> None:
    notebook = execute(TIMEOUT_S)
    nbformat.write(notebook, EXECUTED)
    print(f"{EXECUTED}: {EXECUTED.stat().st_size / 1e6:.1f} MB")


def execute(timeout_s: float) -> nbformat.NotebookNode:
    """Runs in the folder of the source. Raises CellExecutionError with the cell and its traceback.

    What libraries write to stderr is left out: it names folders of this machine.
    """
    notebook = jupytext.read(SOURCE)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"  # jupytext draws random ones: every execution would change every cell
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc")  # by TCP others on this machine could listen
    NotebookClient(notebook, km=kernel, timeout=timeout_s, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    main()
