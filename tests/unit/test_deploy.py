"""The files that put the farm on other machines, checked as far as that goes without a Docker engine or a cluster."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from farm.sweep import load_sweep
from jobs.submit import require_lasting

DOCKERFILE = Path("Dockerfile.gpu").read_text()
IMAGE = "p6_inference_kvcache_quantization:gpu"
CLUSTERS = [Path("ray-cluster.yaml"), Path("cluster/deploy/on-premise.yaml")]
RAYJOB = Path("cluster/deploy/kuberay-rayjob.yaml")
# The fields of KubeRay's API reference (ray.io/v1) that may stand where.
RAYJOB_SPEC = {
    "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata", "clusterSelector",
    "submitterConfig", "managedBy", "deletionStrategy", "entrypoint", "runtimeEnvYAML", "jobId", "submissionMode",
    "entrypointResources", "entrypointNumCpus", "entrypointNumGpus", "ttlSecondsAfterFinished",
    "shutdownAfterJobFinishes", "suspend",
}  # fmt: skip
RAYCLUSTER_SPEC = {
    "suspend", "managedBy", "authOptions", "autoscalerOptions", "headServiceAnnotations", "enableInTreeAutoscaling",
    "gcsFaultToleranceOptions", "headGroupSpec", "rayVersion", "workerGroupSpecs",
}  # fmt: skip
HEAD_SPEC = {"template", "headService", "enableIngress", "rayStartParams", "serviceType"}
WORKER_SPEC = {
    "suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "rayStartParams",
    "template", "scaleStrategy", "numOfHosts",
}  # fmt: skip
AUTOSCALER = {"resources", "image", "imagePullPolicy", "securityContext", "idleTimeoutSeconds", "upscalingMode", "env"}


def pins(name: str) -> dict[str, str]:
    lines = [line.strip() for line in Path(name).read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def instructions(word: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line[len(word) :].strip() for line in joined.splitlines() if line.startswith(word + " ")]


def test_the_linter_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "Dockerfile.gpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_copied_is_there_and_in_the_context() -> None:
    ignored = Path(".dockerignore").read_text().splitlines()
    for copy in instructions("COPY"):
        *sources, _ = [word for word in copy.split() if not word.startswith("--")]
        for source in sources:
            assert Path(source).exists()
            assert source not in ignored
    assert {".git", ".venv", "runs", ".env"} <= set(ignored)
    assert not [line for line in ignored if line.strip("*/") in ("farm", "jobs", "cluster", "README.md")]


def test_the_image_runs_as_nobody_special_and_under_an_init() -> None:
    assert int(instructions("USER")[-1]) > 0
    assert instructions("ENTRYPOINT") == ['["tini", "--"]']
    assert len(instructions("HEALTHCHECK")) == 1
    assert "RAY_AUTH_MODE=token" in DOCKERFILE


def test_versions_agree() -> None:
    """A new pin of torch or Ray makes these fail, so that somebody looks at the CUDA base and the manifests, too."""
    pinned = pins("requirements.txt")
    assert f"the pinned torch ({pinned['torch']}" in DOCKERFILE
    (base,) = instructions("FROM")
    assert re.fullmatch(r"nvidia/cuda:13\.0\.\d+-runtime-ubuntu24\.04", base)
    assert "CUDA 13.0" in DOCKERFILE
    assert yaml.safe_load(RAYJOB.read_text())["spec"]["rayClusterSpec"]["rayVersion"] == pinned["ray"]
    assert f"ray[default]=={pinned['ray']}" in Path("ray-cluster.yaml").read_text()


def test_no_package_is_pinned_twice() -> None:
    core, image, dev, stores = (pins(f"requirements{part}.txt") for part in ("", "-image", "-dev", "-stores"))
    assert not core.keys() & image.keys()
    assert stores.keys() & (core | image | dev).keys() == {"python-dateutil"}
    assert stores["s3fs"] == core["fsspec"]  # it works with that very version alone
    assert {name: version for name, version in image.items() if dev.get(name, version) != version} == {}


@pytest.mark.parametrize("file", CLUSTERS, ids=str)
def test_rays_own_validator_takes_the_cluster(file: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(file.read_text())
    validate_config(prepare_config(config))
    starts = [
        line for part in ("head", "worker") for line in config[f"{part}_start_ray_commands"] if "ray start" in line
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert any(target.endswith(".ray/auth_token") for target in config["file_mounts"])


def test_rays_validator_can_fail() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(CLUSTERS[0].read_text()) | {"max_wrokers": 3}
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(config))


def test_the_cloud_cluster_has_a_gpu_head_and_workers_that_come_and_go() -> None:
    config = yaml.safe_load(CLUSTERS[0].read_text())
    kinds = config["available_node_types"]
    assert kinds[config["head_node_type"]]["resources"]["GPU"] >= 1
    (worker,) = [kind for name, kind in kinds.items() if name != config["head_node_type"]]
    assert worker["min_workers"] == 0 < worker["max_workers"] <= config["max_workers"]
    assert config["docker"]["image"].endswith(f"/{IMAGE}")


def test_the_rayjob_has_only_fields_that_kuberay_knows() -> None:
    job = yaml.safe_load(RAYJOB.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec.keys() <= RAYJOB_SPEC
    assert cluster.keys() <= RAYCLUSTER_SPEC
    assert cluster["headGroupSpec"].keys() <= HEAD_SPEC
    assert cluster["autoscalerOptions"].keys() <= AUTOSCALER
    assert all(group.keys() <= WORKER_SPEC for group in cluster["workerGroupSpecs"])
    assert cluster["authOptions"] == {"mode": "token"}


def test_the_rayjob_runs_a_sweep_that_is_there_into_a_place_that_lasts() -> None:
    spec = yaml.safe_load(RAYJOB.read_text())["spec"]
    words = spec["entrypoint"].split()
    assert words[:3] == ["python", "-m", "jobs.submit"]
    load_sweep(Path(words[3]))
    require_lasting(words[words.index("--out") + 1])
    assert float(words[words.index("--wait-for-gpus") + 1]) > 0  # else `device: auto` is the CPU of a head without GPUs
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods)
    assert {container["image"].split("/")[-1] for pod in pods for container in pod["containers"]} == {IMAGE}


def _make(target: str, path: Path, **env: str) -> str:
    """Run a target with a `docker` that only says what it was asked."""
    fake = path / "docker"
    fake.write_text('#!/bin/sh\necho "docker $*"\necho "token=[$JUPYTER_TOKEN]"\n')
    fake.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    paths = {"PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run(["make", target], capture_output=True, text=True, check=True, env=clean | paths | env).stdout


def test_make_build_and_stop(tmp_path: Path) -> None:
    assert re.search(
        rf"docker build --file Dockerfile.gpu --tag {IMAGE} --build-arg FARM_COMMIT=\w* \.", _make("build", tmp_path)
    )
    assert "docker stop turbo_gpu" in _make("stop", tmp_path)


@pytest.mark.parametrize("given", ["", "mine"])
def test_jupyter_never_starts_without_a_token(given: str, tmp_path: Path) -> None:
    said = _make("jupyter", tmp_path, JUPYTER_TOKEN=given)
    (token,) = re.findall(r"token=\[(.*)\]", said)
    assert token == given or (not given and len(token) == 48)
    assert f"http://127.0.0.1:8888/lab?token={token}" in said
    assert f"--volume {Path.cwd()}:/workspace" in said
    assert "--publish 127.0.0.1:8888:8888" in said
    assert "--name turbo_gpu" in said
    assert token not in next(line for line in said.splitlines() if line.startswith("docker run"))


def test_make_sh_opens_a_shell(tmp_path: Path) -> None:
    assert f"{IMAGE} bash" in _make("sh", tmp_path)


@pytest.mark.parametrize("target", ["demo", "test", "lint", "report", "dashboard"])
def test_the_other_targets_are_there(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


def test_a_submitted_job_takes_the_code_along_and_nothing_else() -> None:
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    excludes = get_excludes_from_ignore_files(Path.cwd(), include_gitignore=True, logger=logging.getLogger())

    def is_left(name: str) -> bool:
        return any(exclude(Path.cwd() / name) for exclude in excludes)

    code = [str(file) for top in ("farm", "jobs", "cluster") for file in Path(top).rglob("*") if _is_source(file)]
    assert [name for name in code if is_left(name)] == []
    made = (".git", ".venv", "runs", "figures", "benchmarks", "metrics", "docs")
    assert [top for top in made if not is_left(f"{top}/file")] == []


def _is_source(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def test_the_examples_of_the_cluster_files_say_which_values_to_set() -> None:
    for file in (*CLUSTERS, RAYJOB):
        head: Any = file.read_text().split("\n", 12)
        assert any("Set before use" in line for line in head), file
