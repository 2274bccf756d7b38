"""docker-compose.yml says what linmatrix.stack does, can be scaled, and gives nobody more than is needed."""

import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from linmatrix.environment.table import SETTINGS
from linmatrix.stack import commands
from linmatrix.stack.postgres import MAX_CONNECTIONS
from tests.scenarios.deployment import substituted

PROJECT = Path(__file__).resolve().parents[2]
# Of ours, from our image; the others are published images.
OURS = {"migrate", "web", "worker", "beat"}
ALL = OURS | {"postgres", "redis", "front"}
CADDYFILE = PROJECT / "deploy" / "Caddyfile"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


def test_it_has_every_part(services: dict[str, Any]) -> None:
    assert set(services) == ALL


def test_web_runs_as_in_the_stack_behind_a_front(services: dict[str, Any]) -> None:
    expected = commands.web(
        host="0.0.0.0",  # noqa: S104  every address of the container
        port=8448,
        workers=2,
        static=PurePosixPath("/app/static"),
        stop_seconds=commands.WEB_STOP_SECONDS_BEHIND_FRONT,
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


def test_a_stop_waits_for_what_is_under_way(services: dict[str, Any]) -> None:
    def seconds(name: str) -> int:
        return int(services[name]["stop_grace_period"].removesuffix("s"))

    assert seconds("web") > commands.WEB_STOP_SECONDS_BEHIND_FRONT
    assert seconds("front") > commands.WEB_STOP_SECONDS_BEHIND_FRONT
    # A turn of 30 seconds (`federation.delivery`) may end with a transaction that takes as long as it may.
    assert seconds("worker") > 30 + float(SETTINGS["LINMATRIX_SEND_TIMEOUT"].default)


def test_volumes_are_declared(compose: dict[str, Any], services: dict[str, Any]) -> None:
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {name for name in mounted if name[0] not in "./$"} == set(compose["volumes"])


@pytest.mark.parametrize("name", sorted(ALL))
def test_nobody_may_do_more_than_is_needed(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "front" else [])
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(ALL - {"migrate"}))
def test_everybody_s_memory_has_a_bound(services: dict[str, Any], name: str) -> None:
    assert services[name]["mem_limit"]


def test_only_the_front_can_be_connected_to_from_outside(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "ports" in service} == {"front"}
    assert services["web"]["environment"]["LINMATRIX_TRUSTED_PROXIES"] == "${LINMATRIX_TRUSTED_PROXIES:-1}"


def test_the_images_do_not_run_as_root() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text()
    stages = {stage.split("\n", 1)[0].rpartition(" AS ")[2]: stage for stage in dockerfile.split("\nFROM ")[1:]}
    assert "\nUSER linmatrix\n" in stages["server"]
    assert "\nUSER 10001:10001\n" in stages["front"]


def test_postgres_takes_as_many_connections_as_in_the_stack(services: dict[str, Any]) -> None:
    assert f"max_connections={MAX_CONNECTIONS}" in services["postgres"]["command"]


@pytest.mark.parametrize("name", ["LINMATRIX_SERVER_NAME", "POSTGRES_PASSWORD"])
def test_what_must_be_set_is_asked_for(name: str) -> None:
    assert f"\n{name}=" in (PROJECT / ".env.example").read_text()
    text = (PROJECT / "docker-compose.yml").read_text()
    assert f"${{{name}:?set it in .env}}" in text
    with pytest.raises(AssertionError, match=f"{name}: set it in .env"):
        substituted(text, {"LINMATRIX_SERVER_NAME": "example.org", "POSTGRES_PASSWORD": "x"} | {name: ""})


@pytest.mark.parametrize("service", sorted(OURS))
def test_every_setting_of_the_environment_file_reaches_every_process(services: dict[str, Any], service: str) -> None:
    given = services[service]["environment"]
    missing = {setting.name for setting in SETTINGS.values() if setting.reader == "server"} - given.keys()
    assert missing == set()
    fixed = {"LINMATRIX_DATA_DIR", "DATABASE_URL", "REDIS_URL", "PROMETHEUS_MULTIPROC_DIR"}
    assert [name for name, value in given.items() if name not in fixed and f"${{{name}:" not in value] == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "https://example.org, https://example.org:8448"),
        ({"LINMATRIX_SITES": "https://matrix.example.org"}, "https://matrix.example.org"),
    ],
)
def test_the_front_answers_for_the_server_s_name_unless_told_otherwise(
    services: dict[str, Any], given: dict[str, str], expected: str
) -> None:
    given = {"LINMATRIX_SERVER_NAME": "example.org", **given}
    assert substituted(services["front"]["environment"]["LINMATRIX_SITES"], given) == expected


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy, which is the front, is not installed")
@pytest.mark.parametrize(
    "given",
    [{}, {"LINMATRIX_TLS": "internal"}, {"LINMATRIX_TLS": "admin@example.org", "LINMATRIX_ADMIN_NETWORKS": "::/0"}],
    ids=["as it is", "an authority of its own", "more said"],
)
def test_the_front_s_configuration_is_one(given: dict[str, str], tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/usr/local/bin:/bin",
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "LINMATRIX_SITES": "https://example.org, https://example.org:8448",
        **given,
    }
    command = ["caddy", "validate", "--config", str(CADDYFILE), "--adapter", "caddyfile"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_front_passes_no_page_on_that_is_for_the_inside() -> None:
    text = CADDYFILE.read_text()
    assert "@inner path /metrics /metrics/* /health /health/*" in text
    assert "respond @inner 404" in text


def test_django_s_own_check_of_a_deployment_finds_nothing(services: dict[str, Any], tmp_path: Path) -> None:
    given = {"LINMATRIX_SERVER_NAME": "example.org", "POSTGRES_PASSWORD": "x"}
    environment = {name: substituted(str(value), given) for name, value in services["web"]["environment"].items()}
    result = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        env={"PATH": "/usr/bin:/bin", **environment, "LINMATRIX_DATA_DIR": str(tmp_path)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
