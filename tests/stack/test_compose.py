"""docker-compose.yml says what linmatrix.stack does, and can be scaled."""

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from linmatrix.stack import commands
from linmatrix.stack.postgres import MAX_CONNECTIONS

PROJECT = Path(__file__).resolve().parents[2]
# Of ours, from our image; the others are published images.
OURS = {"migrate", "web", "worker", "beat"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


def test_it_has_every_part(services: dict[str, Any]) -> None:
    assert set(services) == OURS | {"postgres", "redis", "balancer"}


def test_web_runs_as_in_the_stack(services: dict[str, Any]) -> None:
    expected = commands.web(
        host="0.0.0.0",  # noqa: S104  every address of the container
        port=8448,
        workers=2,
        certificate=PurePosixPath("/tls/tls.crt"),
        key=PurePosixPath("/tls/tls.key"),
        static=PurePosixPath("/app/static"),
    )
    assert services["web"]["command"] == ["python", *expected]


def test_worker_runs_as_in_the_stack(services: dict[str, Any]) -> None:
    assert services["worker"]["command"] == ["python", *commands.worker()]


def test_beat_runs_as_in_the_stack(services: dict[str, Any]) -> None:
    expected = commands.beat(schedule=PurePosixPath("/tmp/beat-schedule"))  # noqa: S108  the container's own
    assert services["beat"]["command"] == ["python", *expected]


def test_migrate_runs_once_before_the_others(services: dict[str, Any]) -> None:
    assert services["migrate"]["command"] == ["python", *commands.manage("migrate", "--noinput")]
    assert services["migrate"]["restart"] == "no"
    for name in OURS - {"migrate"}:
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_dependencies_exist_and_can_be_waited_for(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, dependency in service.get("depends_on", {}).items():
            assert name in services
            if dependency["condition"] == "service_healthy":
                assert services[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ["web", "worker"])
def test_it_can_be_scaled(services: dict[str, Any], name: str) -> None:
    assert "ports" not in services[name]
    assert "container_name" not in services[name]
    assert "hostname" not in services[name]


def test_volumes_are_declared(compose: dict[str, Any], services: dict[str, Any]) -> None:
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {name for name in mounted if name[0] not in "./$"} == set(compose["volumes"])


def test_the_balancer_passes_tls_through_to_web(services: dict[str, Any]) -> None:
    configuration = (PROJECT / "deploy" / "haproxy.cfg").read_text()
    assert "mode tcp" in configuration
    assert f"web:{services['web']['expose'][0]}" in configuration


def test_postgres_takes_as_many_connections_as_in_the_stack(services: dict[str, Any]) -> None:
    assert f"max_connections={MAX_CONNECTIONS}" in services["postgres"]["command"]


def test_every_setting_that_must_be_set_is_in_the_example(services: dict[str, Any]) -> None:
    example = (PROJECT / ".env.example").read_text()
    for name in ("LINMATRIX_SERVER_NAME", "POSTGRES_PASSWORD", "LINMATRIX_PUBLIC_PORT", "LINMATRIX_TLS_FOLDER"):
        assert f"\n{name}=" in example
        assert f"${{{name}:" in (PROJECT / "docker-compose.yml").read_text()


@pytest.mark.parametrize("name", ["LINMATRIX_LIMITS", "LINMATRIX_RATE_LIMITS"])
@pytest.mark.parametrize("service", sorted(OURS))
def test_limits_of_the_environment_file_reach_every_process(services: dict[str, Any], service: str, name: str) -> None:
    assert services[service]["environment"][name] == f"${{{name}:-}}"
    assert f"\n#{name}=" in (PROJECT / ".env.example").read_text()


def test_the_image_does_not_run_as_root() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text().splitlines()
    assert "USER linmatrix" in dockerfile
