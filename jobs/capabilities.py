"""What the measuring side can do on this machine, as JSON on stdout: `python -m jobs.capabilities`.

A process of its own, because a broken package may take the interpreter down with it: `farm doctor` must survive that.
"""

import json


def capabilities(device: str) -> dict[str, str | None]:
    """Each precision's name, and why it cannot run on `device` (None: it can); without the legacy ones."""
    from farm.catalog import LEGACY
    from farm.quantization import parse_quantization
    from jobs.quantization import backends, why_not

    names = [name for backend in backends() for name in backend.names if name not in LEGACY]
    return {name: why_not(parse_quantization(name), device) for name in names}


def environments() -> dict[str, str | None]:
    """Each legacy backend's interpreter; None where `farm prepare-env` has not been run."""
    from farm.catalog import LEGACY
    from jobs.legacy import interpreter

    return {name: str(found) if (found := interpreter(name)) else None for name in LEGACY}


def host_steadiness() -> dict[str, int]:
    """Some seconds of work on this host: `quiet` of `stretches` were at full speed."""
    from jobs.host import STRETCHES, quiet_stretches, this_host

    return {"quiet": quiet_stretches(this_host()), "stretches": STRETCHES}


def main() -> None:
    import torch

    from jobs.devices import resolve_device

    device = resolve_device("auto")
    found = {
        "torch": torch.__version__,
        "device": device,
        "device_name": torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device for torch",
        "cuda": torch.cuda.is_available(),
        "backends": capabilities(device),
        "environments": environments(),
        "host": host_steadiness(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
