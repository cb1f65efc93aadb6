"""Where a backend's worker runs, as a sweep names it: checked, because Ray hands it on to a shell and a run keeps it.

RuntimeEnv(py_executable="/opt/legacy/bin/python", env_vars={"CUDA_HOME": "/usr/local/cuda"})
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from farm.redact import is_secret


def _no_secret(name: str) -> str:
    if is_secret(name):
        raise ValueError(
            f"{name} looks like a secret, and a run keeps its sweep in run.json; set it in the environment of the nodes"
        )
    return name


VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_no_secret)]


class RuntimeEnv(BaseModel):
    """Another interpreter and extra environment variables (Ray's runtime_env)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    py_executable: str | None = Field(None, pattern=r"^[A-Za-z0-9_./+@-]+$")
    env_vars: dict[VariableName, str] = {}
